"""Shows a build of fieldseal that counts what it does (-Cprofile-generate) what services do most.

usage: train.py PROGRAM [SECONDS]     seconds for each of two proxies, 15 unless given

The proxy has to end by itself: its counts are written then.
"""

import os
import pathlib
import random
import signal
import sys
import tempfile
import threading
import time

import pymongo

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/drivers"))

import servers  # noqa: E402

SCHEMA = """
[collections."shop.customers".fields]
ssn            = { type = "string", queries = ["equality"] }
"payment.card" = { type = "string", queries = ["equality"] }
name           = { type = "string" }
phone          = { type = "string" }
address        = {}
"""
CLIENTS = 4


def customer(number):
    return {
        "ssn": f"{number:09}",
        "name": f"customer {number}",
        "phone": f"+44 {number:010}",
        "address": {"street": f"{number} Quay Road", "city": "Leith"},
        "payment": {"card": f"{number:016}", "expires": "09/29"},
        "plan": "gold",
        "visits": number % 40,
        "since": number / 7,
        "notes": "n" * 600,
    }


def serve(collection, dice, until):
    """What a service asks of a collection: most of it finds and writes of one document."""
    while time.monotonic() < until:
        for _ in range(8):
            document = customer(dice.randrange(2000))
            key = collection.insert_one(document).inserted_id
            for _ in range(3):
                assert collection.find_one({"_id": key}) == document
            collection.find_one({"ssn": document["ssn"], "payment.card": document["payment"]["card"]})
            collection.update_one({"_id": key}, {"$set": {"phone": "none"}, "$inc": {"visits": 1}})
            collection.delete_one({"_id": key})
        collection.insert_many([customer(number) for number in range(100)])
        assert len(list(collection.find({}, limit=100))) == 100
        collection.count_documents({"ssn": "1"})
        matched = {"$match": {"ssn": {"$in": ["000000001", "000000002"]}}}
        list(collection.aggregate([matched, {"$project": {"name": 1, "plan": 1}}, {"$limit": 10}]))
        collection.delete_many({})


def train(program, scratch, seconds, tls, further, **client):
    scratch.mkdir()
    with servers.Mongod(scratch) as mongod:
        proxy = servers.Proxy(program, scratch, [mongod], SCHEMA, tls=tls, further=further, level="info")
        with proxy, pymongo.MongoClient(proxy.uri(), **client) as service:
            until = time.monotonic() + seconds
            failed = []

            def client_of(name, seed):
                try:
                    serve(service.shop[name], random.Random(seed), until)
                except Exception as error:
                    failed.append(error)

            # Each has a collection of its own; every other one has nothing sealed.
            names = ["customers", "orders"] + [f"orders_{number}" for number in range(CLIENTS - 2)]
            clients = [threading.Thread(target=client_of, args=each) for each in zip(names, range(CLIENTS))]
            for each in clients:
                each.start()
            for each in clients:
                each.join()
            service.close()
            os.kill(proxy.pid(), signal.SIGTERM)
            status = proxy.process.wait(60)
            if failed or status != 0:
                raise SystemExit(f"exit code {status}, {failed}\n{proxy.log_tail()}")


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 15
    with tempfile.TemporaryDirectory(prefix="fieldseal-train-") as folder:
        scratch = pathlib.Path(folder)
        train(program, scratch / "plain", seconds, False, "")
        admin = '[admin]\nlisten = "127.0.0.1:0"\n'
        train(program, scratch / "tls", seconds, True, admin, compressors="zlib")
    return 0


if __name__ == "__main__":
    sys.exit(main())
