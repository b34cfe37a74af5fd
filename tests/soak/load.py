"""One process of the soak's load: threads that write, read, ask for what is refused, leave cursors open and come back.

usage: load.py URI DATABASE THREADS SEED; ends when standard input closes, and prints what it did.
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


class Load:
    """A client that is replaced now and then, and the threads that share it."""

    def __init__(self, uri, database, threads, seed):
        self.uri, self.database, self.threads, self.seed = uri, database, threads, seed
        self.ended = threading.Event()
        self.counts = collections.Counter()
        self.lock = threading.Lock()
        self.client = self.connect()

    def connect(self):
        # All connections are there at all times, and so many idle ones with them.
        return pymongo.MongoClient(
            self.uri, minPoolSize=self.threads, maxPoolSize=self.threads, compressors=random.choice(["zlib", None])
        )

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
            self.ended.wait(dice.uniform(0, 4))

    def insert(self, people, dice):
        number = dice.randrange(NAMES)
        size = dice.choice([10, 10, 100, 100, 5000, 200_000] if dice.random() < 0.1 else [10, 100])
        people.replace_one({"_id": number}, person(number, size), upsert=True)

    def update(self, people, dice):
        number = dice.randrange(NAMES)
        people.update_one({"ssn": f"ssn {number}"}, {"$set": {"note": "n" * dice.randrange(300)}, "$inc": {"n": 1}})

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
        host, port = people.database.client.address
        find = bson.encode({"find": "people", "batchSize": 200, "$db": self.database})
        with socket.create_connection((host, port)) as connection:
            connection.sendall(struct.pack("<iiiiIB", 21 + len(find), 1, 0, 2013, 0, 0) + find)
            connection.recv(100)

    def run(self):
        workers = [threading.Thread(target=self.work, args=(number,)) for number in range(self.threads)]
        for worker in workers:
            worker.start()
        reconnecting = threading.Thread(target=self.reconnect)
        reconnecting.start()
        sys.stdin.read()
        self.ended.set()
        for worker in [*workers, reconnecting]:
            worker.join()
        self.client.close()
        print(json.dumps(self.counts))

    def reconnect(self):
        """Closes all connections at once, about twice a minute, and opens others."""
        while not self.ended.wait(random.uniform(20, 40)):
            old, self.client = self.client, self.connect()
            old.close()
            self.count("reconnected")


def person(number, size):
    return {"_id": number, "ssn": f"ssn {number}", "note": "n" * size, "n": 0, "at": time.time(), "open": "o" * 50}


if __name__ == "__main__":
    Load(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])).run()
