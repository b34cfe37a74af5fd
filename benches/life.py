"""What it costs to seal a collection anew while services use it.

usage: life.py [--documents N] [--program PATH]

Starts a mongod and two proxies, stores documents through one of them, and measures the
foreground (finds by a sealed field and updates of one, through both proxies) alone and while
`migrate rotate` runs. At the end the old key version is disabled, and every document must still
be readable. Prints documents/s and ratios; exits with 1 if an operation failed.
"""

import argparse
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import pymongo

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/drivers"))

import servers  # noqa: E402

SCHEMA = """
[collections."shop.people".fields]
ssn     = { type = "string", queries = ["equality"] }
email   = { type = "string", queries = ["equality"] }
address = {}
"""
BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/fieldseal"


def person(number):
    return {
        "_id": number,
        "ssn": f"{number:09}",
        "email": f"{number}@example.org",
        "address": {"street": "A street of some length", "number": number, "city": "Town"},
        "count": 0,
        "note": "x" * 200,
    }


class Second(servers.Server):
    """Another proxy of the same configuration and key file."""

    def __init__(self, program, first):
        self.log = first.folder / "log2"
        super().__init__(
            [program, "serve", "-c", first.folder / "fieldseal.toml"], self.log, {**os.environ, "NO_COLOR": "1"}
        )
        if not self.wait_for(self.log, lambda text: "listening" in text):
            raise RuntimeError("the second proxy does not start")
        text = self.log.read_text()
        self.address = text.split("listening", 1)[1].split("address=", 1)[1].split()[0].strip('"')

    def uri(self):
        return f"mongodb://{self.address}/?directConnection=true"


class Foreground:
    """Clients that find and update until they are stopped."""

    def __init__(self, uris, documents):
        self.documents = documents
        self.stopped = threading.Event()
        self.times = {"find": [], "update": []}
        self.failures = []
        self.threads = [threading.Thread(target=self.run, args=(uri,)) for uri in uris]

    def run(self, uri):
        with pymongo.MongoClient(uri) as client:
            people = client.shop.people
            while not self.stopped.is_set():
                number = random.randrange(self.documents)
                try:
                    began = time.perf_counter()
                    found = people.find_one({"ssn": f"{number:09}"})
                    self.times["find"].append(time.perf_counter() - began)
                    if found is None or found["_id"] != number:
                        self.failures.append(f"find {number} found {found and found['_id']}")
                    began = time.perf_counter()
                    people.update_one(
                        {"_id": number}, {"$set": {"email": f"{number}@example.com"}, "$inc": {"count": 1}}
                    )
                    self.times["update"].append(time.perf_counter() - began)
                except pymongo.errors.PyMongoError as error:
                    self.failures.append(str(error)[:200])
                time.sleep(0.002)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def told(self):
        return {name: (len(times), statistics.median(times), quantile(times, 0.99)) for name, times in self.times.items()}


def quantile(times, part):
    return sorted(times)[int(len(times) * part)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--program", type=lambda path: pathlib.Path(path).resolve(), default=BUILT)
    arguments = parser.parse_args()
    count = arguments.documents
    with tempfile.TemporaryDirectory(prefix="fieldseal-life-") as scratch:
        scratch = pathlib.Path(scratch)
        with (
            servers.Mongod(scratch, cache=1) as mongod,
            servers.Proxy(arguments.program, scratch, [mongod], SCHEMA) as first,
            Second(arguments.program, first) as second,
        ):
            configuration = first.folder / "fieldseal.toml"

            def run(*words):
                command = [arguments.program, *words, "-c", configuration]
                began = time.monotonic()
                done = subprocess.run(command, cwd=first.folder, capture_output=True, text=True)
                print(done.stdout.strip(), done.stderr.strip(), sep="\n")
                return done.returncode, time.monotonic() - began

            with pymongo.MongoClient(first.uri()) as client:
                people = client.shop.people
                people.create_index("ssn", unique=True)
                began = time.monotonic()
                for start in range(0, count, 2000):
                    people.insert_many([person(number) for number in range(start, min(start + 2000, count))])
                print(f"stored through the proxy: {count / (time.monotonic() - began):.0f} documents/s")
            uris = [first.uri(), second.uri()]
            with Foreground(uris, count) as alone:
                time.sleep(15)
            failures = list(alone.failures)
            if run("keys", "rotate", "default")[0]:
                sys.exit(1)
            time.sleep(4)
            with Foreground(uris, count) as beside:
                status, seconds = run("migrate", "rotate", "shop.people")
            failures += beside.failures
            if status:
                sys.exit(1)
            print(f"sealed anew: {count / seconds:.0f} documents/s, all passes ({seconds:.1f} s)")
            before, during = alone.told(), beside.told()
            for name in before:
                (many, p50, p99), (other, p50_during, p99_during) = before[name], during[name]
                print(
                    f"{name}: median {p50 * 1000:.2f} ms alone, {p50_during * 1000:.2f} ms beside (ratio {p50_during / p50:.2f}); "
                    f"99th {p99 * 1000:.1f} and {p99_during * 1000:.1f} ms ({many} and {other} operations)"
                )
            with Foreground(uris, count) as after:
                if run("keys", "disable", "default", "--version", "1")[0]:
                    sys.exit(1)
                time.sleep(5)
                with pymongo.MongoClient(second.uri()) as client:
                    read = sum(1 for document in client.shop.people.find() if document["ssn"] == f"{document['_id']:09}")
            failures += after.failures
            updates = sum(len(foreground.times["update"]) for foreground in (alone, beside, after))
            with pymongo.MongoClient(second.uri()) as client:
                total = client.shop.people.aggregate([{"$group": {"_id": None, "n": {"$sum": "$count"}}}])
                counted = next(total)["n"]
            print(f"readable after the old version was disabled: {read} of {count}; failed operations: {len(failures)}")
            print(f"updates that were answered: {updates}; that the documents count: {counted}")
            for failure in failures[:5]:
                print("  ", failure)
            if failures or read != count or updates != counted:
                sys.exit(1)


if __name__ == "__main__":
    main()
