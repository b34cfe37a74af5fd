"""One process of the soak's load: threads that write, read, ask for what is refused, leave cursors open and come back.

usage: load.py URI DATABASE CONNECTIONS SEED; ends when standard input closes, and prints what it did.
"""

import collections
import json
import random
import socket
import struct
import sys
import threading
import time

import bson
import pymongo
from pymongo.errors import CursorNotFound, OperationFailure, PyMongoError

NAMES = 2000
# Of the client; the other connections are mostly idle.
THREADS = 20


class Connection:
    """One that speaks the wire protocol by itself."""

    def __init__(self, address, database):
        self.database = database
        self.socket = socket.create_connection(address)
        self.ask({"hello": 1, "$db": "admin"})

    def send(self, command):
        body = bson.encode(command)
        self.socket.sendall(struct.pack("<iiiiIB", 21 + len(body), 1, 0, 2013, 0, 0) + body)

    def ask(self, command):
        self.send(command)
        received = b""
        while len(received) < 4 or len(received) < struct.unpack_from("<i", received)[0]:
            part = self.socket.recv(65536)
            if not part:
                raise ConnectionError("the proxy closed the connection")
            received += part
        return bson.decode(received[21:])


class Load:
    """A client that is replaced now and then, and the threads that share it."""

    def __init__(self, uri, database, connections, seed):
        self.uri, self.database, self.connections, self.seed = uri, database, connections, seed
        self.ended = threading.Event()
        self.counts = collections.Counter()
        self.lock = threading.Lock()
        self.client = self.connect()

    def connect(self):
        compressors = random.choice([{}, {"compressors": "zlib"}])
        return pymongo.MongoClient(self.uri, minPoolSize=THREADS, **compressors)

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def work(self, number):
        dice = random.Random(self.seed * 1000 + number)
        steps = [self.insert, self.update, self.find, self.find, self.find, self.scan, self.refused, self.abandon]
        steps.append(self.vanish)
        while not self.ended.is_set():
            step = dice.choice(steps)
            try:
                step(self.client[self.database].people, dice)
                self.count(step.__name__)
            except (pymongo.errors.InvalidOperation, CursorNotFound):
                # The client was closed meanwhile.
                self.count("again")
            except PyMongoError as error:
                self.count(f"failed: {type(error).__name__}: {error}"[:200])
            self.ended.wait(dice.uniform(0, 1))

    def insert(self, people, dice):
        number = dice.randrange(NAMES)
        people.replace_one({"_id": number}, person(number), upsert=True)

    def update(self, people, dice):
        number = dice.randrange(NAMES)
        people.update_one({"ssn": f"ssn {number}"}, {"$set": {"note": note(number)}, "$inc": {"n": 1}})

    def find(self, people, dice):
        number = dice.randrange(NAMES)
        found = people.find_one({"ssn": f"ssn {number}"})
        if found is not None and (found["_id"], found["ssn"]) != (number, f"ssn {number}"):
            self.count(f"WRONG: {found['_id']} for {number}")

    def scan(self, people, dice):
        for found in people.find({}, {"ssn": 1}, limit=200, batch_size=50, skip=dice.randrange(NAMES)):
            if found["ssn"] != f"ssn {found['_id']}":
                self.count(f"WRONG: {found['ssn']} in {found['_id']}")

    def refused(self, people, dice):
        commands = [
            lambda: people.find_one({"ssn": {"$regex": "^ssn"}}),
            lambda: people.update_one({"_id": 1}, {"$inc": {"note": 1}}),
            lambda: people.insert_one({"ssn": bson.Binary(b"\xf5\xea\x1d" + bytes(60), 0x8F)}),
            lambda: people.aggregate([{"$project": {"x": {"$concat": ["$ssn", "x"]}}}]).to_list(),
        ]
        try:
            dice.choice(commands)()
        except OperationFailure:
            return
        self.count("WRONG: what should be refused was done")

    def abandon(self, people, _):
        """Leaves a cursor open; it is killed by and by, or with the client."""
        next(people.find({}, batch_size=2), None)

    def vanish(self, people, _):
        """Asks for much, and is gone in the midst of the answer."""
        connection = Connection(people.database.client.address, self.database)
        connection.send({"find": "people", "batchSize": 200, "$db": self.database})
        connection.socket.recv(100)
        connection.socket.close()

    def hold(self):
        """Keeps so many connections; at any time one of them asks, or another takes its place."""
        dice = random.Random(self.seed)
        address = self.client.address
        held = [Connection(address, self.database) for _ in range(self.connections - THREADS)]
        while not self.ended.wait(0.1):
            place = dice.randrange(len(held))
            if dice.random() < 0.3:
                held[place].socket.close()
                held[place] = Connection(address, self.database)
                self.count("replaced")
                continue
            number = dice.randrange(NAMES)
            find = {"find": "people", "filter": {"ssn": f"ssn {number}"}, "$db": self.database}
            found = held[place].ask(find)["cursor"]["firstBatch"]
            self.count("asked" if [one["_id"] for one in found] == [number] else f"WRONG: {len(found)} for {number}")

    def run(self):
        workers = [threading.Thread(target=self.work, args=(number,)) for number in range(THREADS)]
        workers += [threading.Thread(target=self.reconnect), threading.Thread(target=self.hold)]
        for worker in workers:
            worker.start()
        sys.stdin.read()
        self.ended.set()
        for worker in workers:
            worker.join()
        self.client.close()
        print(json.dumps(self.counts))

    def reconnect(self):
        """Closes all connections at once, about twice a minute, and opens others."""
        while not self.ended.wait(random.uniform(20, 40)):
            old, self.client = self.client, self.connect()
            old.close()
            self.count("reconnected")


def note(number):
    """A short one; every tenth is longer, every hundredth long. So the load is the same at all times."""
    return "n" * (200_000 if number % 100 == 0 else 5000 if number % 10 == 0 else 100)


def person(number):
    return {"_id": number, "ssn": f"ssn {number}", "note": note(number), "n": 0, "at": time.time(), "open": "o" * 50}


if __name__ == "__main__":
    Load(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])).run()
