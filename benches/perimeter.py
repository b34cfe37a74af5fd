"""What the perimeter costs: TLS, roles, audit and limits, as ratios to a proxy without them.

usage: perimeter.py [--rounds N] [--program PATH]

Starts one mongod and, before it, a proxy for each row, all with the same keys and the same documents. Each
round does a block of each operation through every one of them, in an order of its own, so that whatever else the machine
does meets all of them. A row's ratio is that of its block to the base's in the same round; printed is the
median of all rounds, and the 10th and 90th percentile. The client is a socket with messages that were
made beforehand, so that it takes little of the time itself. A row whose configuration the program does not
take, or does not obey, is said to be so. Exits with 1 if an operation failed.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import random
import shutil
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import time

import bson
import pymongo

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/drivers"))

import servers  # noqa: E402

BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/fieldseal"

DOCUMENTS = 1000
# How many operations a block has.
BLOCK = {"find by _id": 60, "find of 100": 10, "insert one": 40, "connect": 8}

SCHEMA = """
[collections."shop.*".fields]
ssn     = {{ type = "string", queries = ["equality"] }}
card    = {{ type = "string"{card} }}
address = {{}}
"""
MASKED = ', read = ["billing"], write = ["billing", "support"], mask = "last4"'
AUDITED = ", audit = true"

ROLES = '[access]\n[[access.principals]]\naddress = "127.0.0.1"\nroles = ["{role}"]\n[access.roles.support]\n[access.roles.billing]\n'
AUDIT = '[audit]\nfile = "audit.jsonl"\n'
LIMITS = """[limits]
connections_per_ip        = 1000
connections_per_principal = 1000
commands_per_second       = 1000000
commands_burst            = 1000000
memory_bytes              = 1000000000
document_depth            = 100
array_length              = 100000
idle_timeout_seconds      = 3600
"""


@dataclasses.dataclass
class Row:
    """One way to configure the proxy."""

    name: str
    sections: str = ""
    # What the schema says of `card` besides.
    card: str = ""
    listen: bool = False
    upstream: bool = False
    masked: bool = False
    audited: bool = False


ROWS = [
    Row("base"),
    # The same once more: what the others are to be compared with.
    Row("base again"),
    Row("TLS towards clients", listen=True),
    Row("TLS towards MongoDB", upstream=True),
    Row("TLS on both sides", listen=True, upstream=True),
    Row("roles, may read", ROLES.format(role="billing"), MASKED),
    Row("roles, sees the mask", ROLES.format(role="support"), MASKED, masked=True),
    Row("audited field", AUDIT, AUDITED, audited=True),
    Row("limits", LIMITS),
    Row("all of it", ROLES.format(role="billing") + AUDIT + LIMITS, MASKED + AUDITED, True, True, audited=True),
]


def person(number):
    return {
        "_id": number,
        "ssn": f"{number:09}",
        "card": f"4929 1234 5678 {number:04}",
        "address": {"street": "A street of some length", "number": number, "city": "Town"},
        "note": "x" * 200,
    }


def message(command):
    body = bson.encode(command)
    return struct.pack("<iiiiIB", 21 + len(body), 1, 0, 2013, 0, 0) + body


class NotTaken(Exception):
    """The program does not take a row's configuration, or does not obey it."""


class Proxy(servers.Server):
    """A proxy for one row, with the keys of the first."""

    def __init__(self, program, scratch, mongod, certs, row, keys):
        self.row, self.certs = row, certs
        self.folder = scratch / row.name.replace(" ", "-")
        self.folder.mkdir()
        (self.folder / "schema.toml").write_text(SCHEMA.format(card=row.card))
        (self.folder / "unseal").write_text("5a" * 32)
        text = (
            'schema = "schema.toml"\n[keyring]\nfile = "keyring.json"\nunseal = { file = "unseal" }\n'
            f'[[route]]\nlisten = "127.0.0.1:0"\nupstream = "127.0.0.1:{mongod.port}"\n{row.sections}'
        )
        if row.listen:
            text += f'[tls.listen]\ncert = "{certs}/proxy.pem"\n'
        if row.upstream:
            text += f'[tls.upstream]\nca = "{certs}/ca.pem"\ncert = "{certs}/proxy.pem"\n'
        (self.folder / "fieldseal.toml").write_text(text)
        if keys:
            shutil.copy(keys, self.folder / "keyring.json")
        else:
            self.run(program, "keys", "init")
        self.run(program, "check")
        self.log = self.folder / "log"
        command = ["env", "--chdir", self.folder, program, "serve"]
        super().__init__(command, self.log, {**os.environ, "NO_COLOR": "1"})
        if not self.wait_for(self.log, lambda text: "serving" in text):
            raise NotTaken(self.log.read_text(errors="replace").strip().splitlines()[-1])
        text = self.log.read_text()
        address = text.split("listening", 1)[1].split("address=", 1)[1].split()[0].strip('"')
        self.port = int(address.rsplit(":", 1)[1])

    def run(self, program, *words):
        done = subprocess.run([program, *words], cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            raise NotTaken(done.stderr.strip().splitlines()[0])

    def context(self):
        return ssl.create_default_context(cafile=self.certs / "ca.pem") if self.row.listen else None

    def obeys(self, card):
        """Raises unless what a client was shown of a card, and what was written, is as the row says."""
        if self.row.masked and card == person(0)["card"]:
            raise NotTaken("it takes this configuration and shows the field unmasked")
        if not self.row.masked and card != person(0)["card"]:
            raise RuntimeError(f"{self.row.name}: the wrong card was shown")
        if self.row.audited:
            file = self.folder / "audit.jsonl"
            if not file.exists() or "card" not in file.read_text():
                raise NotTaken("it takes this configuration and audits no read")


class Client:
    """A socket that asks and reads the answer, and looks no further into it than whether it is one."""

    def __init__(self, port, context):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context:
            self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")

    def ask(self, frame):
        self.socket.sendall(frame)
        answer = self.socket.recv(1 << 20)
        while len(answer) < 4 or len(answer) < struct.unpack_from("<i", answer)[0]:
            more = self.socket.recv(1 << 20)
            if not more:
                raise RuntimeError("the connection was closed")
            answer += more
        return answer

    def close(self):
        self.socket.close()


def answered(frame):
    answer = bson.decode(frame[21:])
    if answer.get("ok") != 1.0 or "writeErrors" in answer:
        raise RuntimeError(f"an operation failed: {answer}")
    return answer


class Way:
    """A row with a client that goes through its proxy, or past all of them."""

    def __init__(self, name, port, context):
        self.name, self.port, self.context = name, port, context
        self.client = Client(port, context)

    def block(self, operation):
        """Seconds for one operation of a block."""
        frames = [request(operation) for _ in range(BLOCK[operation])]
        if operation == "connect":
            began = time.perf_counter()
            for frame in frames:
                client = Client(self.port, self.context)
                last = client.ask(frame)
                client.close()
        else:
            ask = self.client.ask
            began = time.perf_counter()
            for frame in frames:
                last = ask(frame)
        spent = time.perf_counter() - began
        answered(last)
        return spent / len(frames)


def request(operation):
    number = random.randrange(DOCUMENTS - 100)
    if operation == "find by _id":
        return message({"find": "people", "filter": {"_id": number}, "limit": 1, "$db": "shop"})
    if operation == "find of 100":
        span = {"$gte": number, "$lt": number + 100}
        return message({"find": "people", "filter": {"_id": span}, "$db": "shop"})
    if operation == "insert one":
        document = {**person(number), "_id": bson.ObjectId()}
        return message({"insert": "written", "documents": [document], "$db": "shop"})
    return message({"hello": 1, "$db": "admin"})


def measure(ways, rounds):
    """For each operation and row, the seconds of each round."""
    times = {operation: {way.name: [] for way in ways} for operation in BLOCK}
    for number in range(rounds + 1):
        for operation in BLOCK:
            for way in random.sample(ways, len(ways)):
                spent = way.block(operation)
                # The first round only warms up.
                if number:
                    times[operation][way.name].append(spent)
        if sys.stderr.isatty():
            print(f"\rround {number} of {rounds}", end="", file=sys.stderr)
    return times


def quantile(numbers, part):
    return sorted(numbers)[round((len(numbers) - 1) * part)]


def report(names, times, left_out):
    width = max(map(len, [*names, *left_out])) + 2
    print("\n" + " " * width + "".join(f"{operation:<22}" for operation in BLOCK))
    base = {operation: times[operation]["base"] for operation in BLOCK}
    cells = (f"{statistics.median(base[operation]) * 1e6:.0f} µs" for operation in BLOCK)
    print(f"{'base':<{width}}" + "".join(f"{cell:<22}" for cell in cells))
    for name in names:
        if name == "base":
            continue
        line = f"{name:<{width}}"
        for operation in BLOCK:
            pairs = zip(times[operation][name], base[operation], strict=True)
            ratios = [spent / of_base for spent, of_base in pairs]
            low, high = quantile(ratios, 0.1), quantile(ratios, 0.9)
            line += f"{f'{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})':<22}"
        print(line)
    for name, reason in left_out.items():
        print(f"{name:<{width}}NOT MEASURED: {reason}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--program", type=lambda path: pathlib.Path(path).resolve(), default=BUILT)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        scratch = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fieldseal-perimeter-")))
        certs = scratch / "certs"
        subprocess.run([arguments.program, "certs", certs], check=True, stdout=subprocess.DEVNULL)
        # With TLS and without, so that it is one mongod for all.
        tls = ["--tlsMode", "allowTLS", "--tlsCAFile", certs / "ca.pem", "--tlsCertificateKeyFile", certs / "mongod.pem"]
        mongod = stack.enter_context(servers.Mongod(scratch, cache=0.5, arguments=tls))
        ways, left_out, keys = [Way("no proxy", mongod.port, None)], {}, None
        for row in ROWS:
            try:
                proxy = stack.enter_context(Proxy(arguments.program, scratch, mongod, certs, row, keys))
                way = Way(row.name, proxy.port, proxy.context())
                if not keys:
                    keys = proxy.folder / "keyring.json"
                    with pymongo.MongoClient(f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true") as client:
                        client.shop.people.insert_many(map(person, range(DOCUMENTS)))
                first = answered(way.client.ask(message({"find": "people", "filter": {"_id": 0}, "$db": "shop"})))
                (shown,) = first["cursor"]["firstBatch"]
                proxy.obeys(shown["card"])
                ways.append(way)
            except NotTaken as error:
                left_out[row.name] = str(error)
        times = measure(ways, arguments.rounds)
        report([way.name for way in ways], times, left_out)


if __name__ == "__main__":
    main()
