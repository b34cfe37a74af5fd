"""The writer on PyMongo; what it does is in ../README.md."""

import json
import os
import random
import sys
import threading
import time

import pymongo
from pymongo.errors import PyMongoError
from pymongo.read_preferences import Primary, SecondaryPreferred

ended = threading.Event()
printing = threading.Lock()


class Wrong(Exception):
    """An answer that is not what was written."""


def tell(worker, op, number, work):
    """Does one thing and says how it went; true if it succeeded."""
    at, began, text = time.time(), time.monotonic(), ""
    try:
        outcome = "ok" if work() else "absent"
    except Wrong as error:
        outcome, text = "wrong", str(error)
    except PyMongoError as error:
        outcome, text = "failed", f"{type(error).__name__}: {error}"
    line = {"at": at, "took": time.monotonic() - began, "worker": worker, "op": op, "number": number}
    with printing:
        print(json.dumps({**line, "outcome": outcome, "text": text[:300]}), flush=True)
    return outcome == "ok"


def person(worker, number):
    name = f"{worker}-{number}"
    return {"_id": name, "worker": worker, "number": number, "ssn": f"ssn {name}", "note": f"note {name}"}


def found(answer, expected):
    if answer is not None and answer != expected:
        raise Wrong(f"{answer['_id']} in the place of {expected['_id']}, or with other values")
    return answer is not None


def work(database, reading, worker):
    number, acknowledged = 0, []
    while not ended.is_set():
        number += 1
        one = person(worker, number)
        counters, people = database.counters, database.people
        tell(worker, "count", number, lambda: counters.update_one({"_id": worker}, {"$inc": {"n": 1}}).matched_count)
        if tell(worker, "insert", number, lambda: people.insert_one(one).inserted_id):
            acknowledged.append(number)
            tell(worker, "find", number, lambda: found(reading.find_one({"ssn": one["ssn"]}), one))
        if acknowledged:
            old = person(worker, random.choice(acknowledged))
            tell(worker, "read", old["number"], lambda: found(reading.find_one({"_id": old["_id"]}), old))
        time.sleep(0.05)


def main():
    preference = SecondaryPreferred() if os.environ["READ"] == "secondaryPreferred" else Primary()
    client = pymongo.MongoClient(os.environ["URI"])
    database = client[os.environ["DATABASE"]]
    reading = database.get_collection("people", read_preference=preference)
    workers = [threading.Thread(target=work, args=(database, reading, n)) for n in range(int(os.environ["WORKERS"]))]
    for worker in workers:
        worker.start()
    sys.stdin.read()
    ended.set()
    for worker in workers:
        worker.join()
    print(json.dumps({"version": pymongo.version}))


main()
