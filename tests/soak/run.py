"""The proxy under a mixed load for a while: does its memory stay, does it close what it opened?

usage: run.py [--minutes N] [--connections N] [--fieldseal PATH]
       run.py --idle N            what an idle connection costs

While clients write, read, are refused, leave cursors open and come back, keys rotate, epochs too, and files are
taken up anew. Prints a line for each sample; exits with 1 if memory grew, a descriptor was left
open, an answer was wrong, or an operation failed.
"""

import argparse
import collections
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import pymongo

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/drivers"))

import load  # noqa: E402
import servers  # noqa: E402

BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/fieldseal"
PROCESSES = 4
# The first third warms up. By how much memory may differ between the second and the last: a share,
# and what an allocator keeps.
SHARE, SLACK = 1.10, 3 * 1024

SCHEMA = """
[collections."soak.people".fields]
ssn  = { type = "string", queries = ["equality"], audit = true }
note = {}
"""


class Sample:
    """What the process holds at a moment; memory in KiB."""

    def __init__(self, pid):
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        self.at = time.monotonic()
        self.memory = int(fields["RssAnon"].split()[0])
        self.threads = int(fields["Threads"])
        self.descriptors = len(os.listdir(f"/proc/{pid}/fd"))

    def __str__(self):
        return f"RssAnon {self.memory / 1024:6.1f} MiB, {self.descriptors:5} descriptors, {self.threads} threads"


class Changes:
    """What an operator does meanwhile, one thing after the other."""

    def __init__(self, program, proxy):
        self.program, self.proxy = program, proxy
        self.turn = 0
        self.done = collections.Counter()

    def next(self):
        steps = [self.rotate, self.touch, self.stage, self.promote, self.certify]
        step = steps[self.turn % len(steps)]
        self.turn += 1
        step()
        self.done[step.__name__] += 1

    def keys(self, *arguments):
        command = [self.program, "keys", *arguments, "-c", self.proxy.folder / "fieldseal.toml"]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
        if done.returncode != 0:
            raise RuntimeError(f"keys {' '.join(arguments)}: {done.stderr}")
        self.reload()

    def reload(self):
        os.kill(self.proxy.pid(), signal.SIGHUP)

    def rotate(self):
        self.keys("rotate", "default")

    def stage(self):
        self.keys("stage", "default")

    def promote(self):
        self.keys("promote", "default")

    def touch(self):
        """A schema with another line: it is compiled anew."""
        schema = self.proxy.folder / "schema.toml"
        schema.write_text(f"{SCHEMA}# change {self.turn}\n")
        self.reload()

    def certify(self):
        """Ten reloads at once, and one with a mistake, which is not taken up."""
        schema = self.proxy.folder / "schema.toml"
        right = schema.read_text()
        schema.write_text("this is a mistake")
        self.reload()
        time.sleep(0.5)
        schema.write_text(right)
        for _ in range(10):
            self.reload()


def start_loads(uri, connections):
    return [
        subprocess.Popen(
            [sys.executable, pathlib.Path(__file__).with_name("load.py"), uri, "soak", str(connections // PROCESSES), str(n)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(PROCESSES)
    ]


def settled(pid, before):
    """Waits until no more descriptors and threads are left than before; those of a reload's files end after ten seconds."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        sample = Sample(pid)
        if sample.descriptors <= before.descriptors and sample.threads <= before.threads:
            break
        time.sleep(0.2)
    return sample


def soak(arguments, scratch, mongod, proxy):
    with pymongo.MongoClient(proxy.uri()) as client:
        people = client.soak.people
        people.create_index("ssn")
        people.insert_many([load.person(number) for number in range(load.NAMES)])
    pid = proxy.pid()
    time.sleep(2)
    before = Sample(pid)
    print(f"{0:7.1f} s  {before}  (no clients)", flush=True)
    began = time.monotonic()
    loads = start_loads(proxy.uri(), arguments.connections)
    changes = Changes(arguments.fieldseal, proxy)
    samples, changed = [], began
    seconds = arguments.minutes * 60
    while time.monotonic() - began < seconds:
        time.sleep(2)
        samples.append(Sample(pid))
        if len(samples) % 15 == 1:
            print(f"{samples[-1].at - began:7.1f} s  {samples[-1]}", flush=True)
        if time.monotonic() - changed > 10:
            changes.next()
            changed = time.monotonic()
    counts = collections.Counter()
    for process in loads:
        counts.update(json.loads(process.communicate(timeout=120)[0]))
    after = settled(pid, before)
    print(f"{time.monotonic() - began:7.1f} s  {after}  (clients gone)")
    for what, count in sorted((counts + changes.done).items()):
        print(f"  {count:8} {what}")
    return judge(samples, began, seconds, before, after, counts)


def judge(samples, began, seconds, before, after, counts):
    """What is wrong."""
    wrong = [f"{count} times {what}" for what, count in counts.items() if what.startswith(("WRONG", "failed"))]
    warm = [sample.memory for sample in samples if seconds / 3 < sample.at - began < seconds * 2 / 3]
    last = [sample.memory for sample in samples if sample.at - began > seconds * 2 / 3]
    warm, last = statistics.median(warm), statistics.median(last)
    bound = warm * SHARE + SLACK
    print(f"RssAnon in the second third {warm / 1024:.1f} MiB, in the last third {last / 1024:.1f} MiB (at most {bound / 1024:.1f})")
    if last > bound:
        wrong.append("memory grew")
    print(f"descriptors before {before.descriptors}, after {after.descriptors}; threads {before.threads}, {after.threads}")
    if after.descriptors > before.descriptors:
        wrong.append("descriptors were left open")
    if after.threads > before.threads:
        wrong.append("threads were left")
    return wrong


def idle(arguments, scratch, mongod, proxy):
    """Opens so many connections, each of which has said hello and found a sealed document, and measures."""
    pid = proxy.pid()
    with pymongo.MongoClient(proxy.uri()) as client:
        client.soak.people.insert_one({"_id": 1, "ssn": "ssn 1", "note": "n"})
    time.sleep(2)
    before = Sample(pid)
    print(f"{0:6} connections: {before}")
    host, port = proxy.addresses[0].split(":")
    connections = []
    find = {"find": "people", "filter": {"ssn": "ssn 1"}, "$db": "soak"}
    while len(connections) < arguments.idle:
        for _ in range(min(1000, arguments.idle - len(connections))):
            connection = load.Connection((host, port), "soak")
            assert connection.ask(find)["cursor"]["firstBatch"][0]["ssn"] == "ssn 1"
            connections.append(connection)
        time.sleep(1)
        sample = Sample(pid)
        each = (sample.memory - before.memory) / len(connections)
        print(f"{len(connections):6} connections: {sample}; {each:.2f} KiB each", flush=True)
    assert connections[0].ask(find)["ok"] == 1
    began = time.process_time()
    ticks = cpu(pid)
    time.sleep(5)
    print(f"CPU of the proxy in 5 s with all of them idle: {cpu(pid) - ticks:.2f} s")
    assert time.process_time() - began < 5
    for connection in connections:
        connection.socket.close()
    after = settled(pid, before)
    print(f"{0:6} connections: {after}")
    return [] if after.descriptors <= before.descriptors else ["descriptors were left open"]


def cpu(pid):
    """Seconds that it computed so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--idle", type=int, help="so many idle connections in place of the load")
    parser.add_argument("--fieldseal", type=lambda path: pathlib.Path(path).resolve(), default=BUILT)
    arguments = parser.parse_args()
    further = "[limits]\nconnections = 20000\n"
    if not arguments.idle:
        further += 'memory_bytes = 200000000\n[audit]\nfile = "audit.jsonl"\nmax_bytes = 2000000\nkeep = 3\n'
    with tempfile.TemporaryDirectory(prefix="fieldseal-soak-") as folder:
        scratch = pathlib.Path(folder)
        with (
            servers.Mongod(scratch) as mongod,
            servers.Proxy(arguments.fieldseal, scratch, [mongod], SCHEMA, further=further, level="info") as proxy,
        ):
            wrong = (idle if arguments.idle else soak)(arguments, scratch, mongod, proxy)
            if wrong:
                print(proxy.log_tail())
    for what in wrong:
        print(f"WRONG: {what}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
