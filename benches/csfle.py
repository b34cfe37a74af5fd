"""The proxy beside PyMongo with client-side encryption: CPU time and time on the wall.

usage: csfle.py [--rounds N] [--program PATH] [--json FILE]

The same document of 1 KiB, the same five fields, the same PyMongo, one connection and one mongod:

- plain: PyMongo without encryption, straight to mongod;
- csfle: the service has PyMongo encrypt the five values with `ClientEncryption.encrypt`, two deterministically and
  three at random, with a local master key, and decrypt them with `ClientEncryption.decrypt`;
- automatic: written likewise, and decrypted by PyMongo itself (`bypass_auto_encryption`);
- untouched: PyMongo without encryption, through the proxy, in a collection that the schema does not name;
- sealed: the same, in a collection in which the proxy seals the five fields, two with an equality token.

What csfle costs is the CPU time of this process (all its threads) in a turn of csfle, less that in a turn of
plain in the same round, for each document. What the proxy costs is the CPU time of its process (schedstat) in a
turn of sealed, less that in a turn of untouched in the same round. The ratio is of the two medians, its spread
that of the rounds. On the wall, whole turns are compared: csfle to sealed. Turns come in an
order drawn anew each round; the first round only warms up. Exits with 1 if an answer is wrong.
"""

import argparse
import contextlib
import functools
import importlib.metadata
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

import bson
import pymongo
from bson.binary import STANDARD
from bson.codec_options import CodecOptions
from pymongo.encryption import Algorithm, ClientEncryption
from pymongo.encryption_options import AutoEncryptionOpts

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/drivers"))

import servers  # noqa: E402

BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/fieldseal"

FIELDS = """
ssn            = { type = "string", queries = ["equality"] }
"payment.card" = { type = "string", queries = ["equality"] }
name           = { type = "string" }
phone          = { type = "string" }
address        = {}
"""
# What is read, and what is written.
SCHEMA = "".join(f'[collections."shop.{name}".fields]{FIELDS}' for name in ("customers", "customers_new"))
SECRET = [b"078-05-1120", b"Ada Marsh", b"+44 20 7946 0958", b"12 Quay Road", b"4929 1234 5678 9012"]

DETERMINISTIC = Algorithm.AEAD_AES_256_CBC_HMAC_SHA_512_Deterministic
RANDOM = Algorithm.AEAD_AES_256_CBC_HMAC_SHA_512_Random

SIZE = 1024
HUNDRED = 100
# One member acknowledges without its journal, so that a write waits for little else than what is measured.
OPTIONS = "directConnection=true&w=1"
# How many documents a turn writes or reads.
TURN = {"insert one": 200, "find by _id": 200, "insert of 100": 300, "find of 100": 300}


def customer():
    document = {
        "ssn": "078-05-1120",
        "name": "Ada Marsh",
        "phone": "+44 20 7946 0958",
        "address": {"street": "12 Quay Road", "city": "Leith", "postcode": "EH6 6LX"},
        "payment": {"card": "4929 1234 5678 9012", "expires": "09/29"},
        "plan": "gold",
        "visits": 17,
        "notes": "",
    }
    document["notes"] = "n" * (SIZE - len(bson.encode(document)))
    return document


def cpu_of(process):
    """CPU seconds of all threads of a process; the proxy keeps its threads."""
    total = 0
    for thread in pathlib.Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


class Proxy(servers.Server):
    """The proxy as it is configured by default."""

    def __init__(self, program, scratch, mongod):
        folder = scratch / "proxy"
        folder.mkdir()
        self.port = servers.free_port()
        (folder / "schema.toml").write_text(SCHEMA)
        (folder / "unseal").write_text("5a" * 32)
        configuration = folder / "fieldseal.toml"
        configuration.write_text(
            'schema = "schema.toml"\n[keyring]\nfile = "keyring.json"\nunseal = { file = "unseal" }\n'
            f'[[route]]\nlisten = "127.0.0.1:{self.port}"\nupstream = "127.0.0.1:{mongod.port}"\n'
        )
        subprocess.run([program, "keys", "init", "-c", configuration], check=True, stdout=subprocess.DEVNULL)
        log = folder / "log"
        super().__init__([program, "serve", "-c", configuration], log, {**os.environ, "NO_COLOR": "1"})
        if not self.wait_for(log, lambda text: "serving" in text):
            raise SystemExit(log.read_text(errors="replace"))


class Way:
    """One way to write and read customers."""

    def __init__(self, client, name, process=None):
        self.read, self.written = client.shop[name], client.shop[f"{name}_new"]
        self.process = process

    def seal(self, document):
        return document

    def open(self, document):
        return document

    def prepare(self):
        self.read.insert_many([{"_id": number, **self.seal(customer())} for number in range(3 * HUNDRED)])
        found = self.open(self.read.find_one({"_id": 7}))
        del found["_id"]
        if found != customer():
            raise SystemExit(f"{self.read.name}: what is read is not what was written")
        self.empty()
        self.insert_one(customer())

    def empty(self):
        self.written.drop()
        self.written.database.create_collection(self.written.name)

    def insert_one(self, document):
        self.written.insert_one(self.seal(document))

    def insert_of_100(self, documents):
        self.written.insert_many([self.seal(document) for document in documents])

    def find_by_id(self, number):
        self.open(self.read.find_one({"_id": number}))

    def find_of_100(self, first):
        found = self.read.find({"_id": {"$gte": first, "$lt": first + HUNDRED}}, batch_size=HUNDRED + 1)
        if len([self.open(document) for document in found]) != HUNDRED:
            raise SystemExit("documents are not found")

    def turn(self, operation):
        """CPU seconds of this process and of the proxy, and seconds on the wall, for each document."""
        count = TURN[operation]
        # Documents are made beforehand: MongoDB's `_id` is put into them.
        work = {
            "insert one": lambda: [functools.partial(self.insert_one, customer()) for _ in range(count)],
            "find by _id": lambda: [functools.partial(self.find_by_id, number) for number in range(count)],
            "insert of 100": lambda: [
                functools.partial(self.insert_of_100, [customer() for _ in range(HUNDRED)])
                for _ in range(count // HUNDRED)
            ],
            "find of 100": lambda: [
                functools.partial(self.find_of_100, number * HUNDRED) for number in range(count // HUNDRED)
            ],
        }[operation]()
        proxy = cpu_of(self.process) if self.process else 0
        own, began = time.process_time(), time.perf_counter()
        for step in work:
            step()
        wall, own = time.perf_counter() - began, time.process_time() - own
        proxy = (cpu_of(self.process) if self.process else 0) - proxy
        return own / count, proxy / count, wall / count


class Encrypted(Way):
    """PyMongo encrypts each value when it is told to, and decrypts by itself."""

    def __init__(self, client, name, encryption, key):
        super().__init__(client, name)
        self.encryption, self.key = encryption, key

    def seal(self, document):
        def sealed(value, algorithm):
            return self.encryption.encrypt(value, algorithm, key_id=self.key)

        return {
            **document,
            "ssn": sealed(document["ssn"], DETERMINISTIC),
            "payment": {**document["payment"], "card": sealed(document["payment"]["card"], DETERMINISTIC)},
            "name": sealed(document["name"], RANDOM),
            "phone": sealed(document["phone"], RANDOM),
            "address": sealed(document["address"], RANDOM),
        }


class Explicit(Encrypted):
    """PyMongo encrypts and decrypts each value when it is told to."""

    def open(self, document):
        opened = self.encryption.decrypt
        document["payment"]["card"] = opened(document["payment"]["card"])
        for name in ("ssn", "name", "phone", "address"):
            document[name] = opened(document[name])
        return document


def ways(stack, program, scratch):
    mongod = stack.enter_context(servers.Mongod(scratch))
    proxy = stack.enter_context(Proxy(program, scratch, mongod))
    direct = f"mongodb://127.0.0.1:{mongod.port}/?{OPTIONS}"
    through = f"mongodb://127.0.0.1:{proxy.port}/?{OPTIONS}"

    def client(uri, **options):
        return stack.enter_context(pymongo.MongoClient(uri, **options))

    providers = {"local": {"key": os.urandom(96)}}
    vault = client(direct)
    codec = CodecOptions(uuid_representation=STANDARD)
    encryption = stack.enter_context(ClientEncryption(providers, "keys.vault", vault, codec))
    key = encryption.create_data_key("local")
    opens = AutoEncryptionOpts(providers, "keys.vault", bypass_auto_encryption=True)
    through_proxy = client(through)
    process = fieldseal_of(proxy.process.pid)
    found = {
        "plain": Way(client(direct), "plain"),
        "csfle": Explicit(client(direct), "csfle", encryption, key),
        "automatic": Encrypted(client(direct, auto_encryption_opts=opens), "automatic", encryption, key),
        "untouched": Way(through_proxy, "orders", process),
        "sealed": Way(through_proxy, "customers", process),
    }
    for way in found.values():
        way.prepare()
    for name in ("csfle", "automatic", "customers"):
        for collection in (vault.shop[name], vault.shop[f"{name}_new"]):
            stored = bson.encode(collection.find_one())
            if any(value in stored for value in SECRET):
                raise SystemExit(f"{collection.name} is not encrypted at rest")
    return found


def fieldseal_of(shell):
    """The process below the shell that watches it."""
    children = pathlib.Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
    for child in children:
        if b"serve" in pathlib.Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
            return int(child)
    raise SystemExit("the proxy's process is not found")


def measure(found, rounds):
    turns = {operation: {name: [] for name in found} for operation in TURN}
    for number in range(rounds + 1):
        for operation in TURN:
            for way in found.values():
                way.empty()
            for name in random.sample(list(found), len(found)):
                turn = found[name].turn(operation)
                # The first round only warms up.
                if number:
                    turns[operation][name].append(turn)
    return turns


def spread(values):
    values = sorted(values)

    def at(part):
        place = part * (len(values) - 1)
        low = int(place)
        high = min(low + 1, len(values) - 1)
        return values[low] + (values[high] - values[low]) * (place - low)

    return {"low": at(0.1), "median": at(0.5), "high": at(0.9)}


def shown(found, scale=1.0, digits=1):
    low, median, high = (f"{found[part] * scale:.{digits}f}" for part in ("low", "median", "high"))
    return f"{median} ({low} to {high})"


def added(turns, column, way, base):
    pairs = zip(turns[way], turns[base], strict=True)
    return [own[column] - other[column] for own, other in pairs]


def report(turns):
    """Prints all figures; returns them and the marks."""
    figures, marks = {}, []
    print("CPU and time on the wall, µs for each document\n")
    print("| | csfle adds, CPU | automatic adds, CPU | the proxy adds, CPU | " + " | ".join(turns["find of 100"]) + " |")
    print("| --- " * 9 + "|")
    for operation, of_operation in turns.items():
        theirs = {name: added(of_operation, 0, name, "plain") for name in ("csfle", "automatic")}
        proxy = added(of_operation, 1, "sealed", "untouched")
        wall = {name: [turn[2] for turn in turns_of] for name, turns_of in of_operation.items()}
        cells = [*theirs.values(), proxy, *wall.values()]
        print(f"| {operation} | {' | '.join(shown(spread(cell), 1e6) for cell in cells)} |")
        figures[operation] = {
            "cpu_added": {name: spread(values) for name, values in {**theirs, "proxy": proxy}.items()},
            "wall": {name: spread(values) for name, values in wall.items()},
        }
        # A round's difference of a few microseconds can be none; what is divided by is the median.
        middle = statistics.median(proxy)
        # What is written is encrypted in one way only.
        for name in theirs if operation.startswith("find") else ["csfle"]:
            ratio = spread([value / middle for value in theirs[name]]) if middle > 0 else None
            marks.append((f"{operation}: CPU for each document, {name} to the proxy", 100, ratio))
            if operation == "find of 100":
                faster = [other / sealed for other, sealed in zip(wall[name], wall["sealed"], strict=True)]
                marks.append((f"{operation}: time on the wall, {name} to the proxy", 15, spread(faster)))
    print("\n| what | mark | found (10 to 90 %) | |\n| --- | --- | --- | --- |")
    for what, bound, found in marks:
        if found is None:
            print(f"| {what} | at least {bound} | the proxy's is lost in the noise | |")
        else:
            verdict = "pass" if found["median"] >= bound else "SHORT"
            print(f"| {what} | at least {bound} | {shown(found)} | {verdict} |")
    figures["marks"] = [{"what": what, "at_least": bound, "found": found} for what, bound, found in marks]
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--program", type=lambda path: pathlib.Path(path).resolve(), default=BUILT)
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    versions = (f"{name} {importlib.metadata.version(name)}" for name in ("pymongo", "pymongocrypt"))
    print(f"{', '.join(versions)}; one connection; {arguments.rounds} rounds\n")
    with contextlib.ExitStack() as stack:
        scratch = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fieldseal-csfle-")))
        turns = measure(ways(stack, arguments.program, scratch), arguments.rounds)
    figures = report(turns)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
