"""The writers: one program for each driver, what it says, and whether that is true."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field

import pymongo

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "tests/failures"
GO_PATH = "/usr/share/gocode"
WORKERS = 2

# How soon a driver notices; how long it looks for another member is the default, 30 s.
OPTIONS = (
    "&w=majority&retryWrites=true&retryReads=true"
    "&connectTimeoutMS=2000&heartbeatFrequencyMS=1000&serverSelectionTimeoutMS=30000"
)
PATIENCE = 30


@dataclass
class Driver:
    """How one program is built and run; `missing` says why it cannot be."""

    name: str
    command: list
    missing: str | None = None
    compile: list = field(default_factory=list)
    environment: dict = field(default_factory=dict)
    # So that what was sent to a frozen member is given up; Rust's driver has nothing like it.
    options: str = "&socketTimeoutMS=5000"

    def build(self):
        if self.missing or not self.compile:
            return
        done = subprocess.run(self.compile, env={**os.environ, **self.environment}, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name} does not compile:\n{done.stdout}{done.stderr}")


def all_drivers(out, cargo):
    node = ROOT / "tests/drivers/node"
    has_node = shutil.which("node") and (node / "node_modules/mongodb").exists()
    has_go = shutil.which("go") and pathlib.Path(f"{GO_PATH}/src/go.mongodb.org/mongo-driver").exists()
    go = {"GO111MODULE": "off", "GOPATH": GO_PATH, "GOCACHE": str(ROOT / "target/go-cache"), "CGO_ENABLED": "0"}
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return [
        Driver("python", [sys.executable, HERE / "python/writer.py"]),
        Driver(
            "rust",
            [target / "debug/examples/failures_writer"],
            compile=[cargo, "build", "--locked", "--quiet", "--example", "failures_writer"],
            options="",
        ),
        Driver(
            "node",
            ["node", HERE / "node/writer.mjs"],
            None if has_node else "no node, or no package mongodb (npm)",
            environment={"MODULES": str(node)},
        ),
        Driver(
            "go",
            [out / "writer-go"],
            None if has_go else "no go, or no golang-mongodb-mongo-driver-dev",
            compile=["go", "build", "-o", str(out / "writer-go"), str(HERE / "go/writer.go")],
            environment=go,
        ),
    ]


class Writer:
    """One program at work, through the proxy or straight to the set."""

    def __init__(self, driver, way, uri, reader_uri, database, reading, scratch):
        self.driver, self.way, self.reader_uri, self.database = driver, way, reader_uri, database
        self.output = scratch / f"{database}.jsonl"
        self.errors = scratch / f"{database}.err"
        with pymongo.MongoClient(reader_uri) as client:
            counters = client[database].get_collection("counters", write_concern=pymongo.WriteConcern("majority"))
            counters.insert_many([{"_id": worker, "n": 0} for worker in range(WORKERS)])
        environment = {"URI": uri + OPTIONS + driver.options, "DATABASE": database, "READ": reading, "WORKERS": str(WORKERS)}
        with open(self.output, "wb") as output, open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(
                [*map(str, driver.command)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=errors,
                env={**os.environ, **driver.environment, **environment},
            )

    def label(self):
        return f"{self.driver.name} {self.way}"

    def lines(self):
        told = []
        for line in self.output.read_text().splitlines():
            try:
                told.append(json.loads(line))
            except json.JSONDecodeError:
                # The last one is half written.
                break
        return told

    def succeeded_since(self, at):
        """How often each worker did all four things since then."""
        counts = {(worker, op): 0 for worker in range(WORKERS) for op in ("count", "insert", "find", "read")}
        for line in self.lines():
            if line.get("outcome") == "ok" and line["at"] >= at:
                counts[line["worker"], line["op"]] += 1
        return min(counts.values())

    def finish(self):
        """Lets it end what it does."""
        self.process.stdin.close()
        try:
            code = self.process.wait(2 * PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return [f"did not end within {2 * PATIENCE} s"]
        errors = self.errors.read_text(errors="replace").strip()
        return [f"ended with {code}: {errors[-2000:]}"] if code else []

    def longest_pause(self, since):
        """The longest time that a worker had to wait for its next write, in seconds; and how many things failed."""
        longest, failed = 0.0, 0
        for worker in range(WORKERS):
            last = None
            for line in self.lines():
                if line.get("worker") != worker:
                    continue
                end = line["at"] + line["took"]
                if line["outcome"] == "failed":
                    failed += 1
                elif line["op"] in ("count", "insert"):
                    if last is not None and end > since:
                        longest = max(longest, end - last)
                    last = end
        return longest, failed

    def verify(self, absence_allowed):
        """What it was told, beside what is there; gives what is wrong."""
        wrong = []
        lines = [line for line in self.lines() if "op" in line]
        for line in lines:
            if line["outcome"] == "wrong" or "E11000" in line["text"]:
                wrong.append(f"a wrong answer: {line}")
            if line["outcome"] == "absent" and not (absence_allowed and line["op"] in ("find", "read")):
                wrong.append(f"what was acknowledged was not found: {line}")
        with pymongo.MongoClient(self.reader_uri) as client:
            database = client[self.database]
            for worker in range(WORKERS):
                wrong += counted(database.counters.find_one({"_id": worker}), tally(lines, worker, "count"), worker)
                stored = list(database.people.find({"worker": worker}))
                wrong += inserted(stored, tally(lines, worker, "insert"), worker)
            wrong += found_by_equality(database.people)
        return wrong


def tally(lines, worker, op):
    """The numbers that were acknowledged, and those of which it is not known."""
    numbers = {"ok": set(), "failed": set()}
    for line in lines:
        if line["worker"] == worker and line["op"] == op:
            numbers[line["outcome"]].add(line["number"])
    return numbers["ok"], numbers["failed"]


def counted(counter, told, worker):
    acknowledged, unknown = map(len, told)
    if acknowledged <= counter["n"] <= acknowledged + unknown:
        return []
    return [f"worker {worker}: {counter['n']} counted, {acknowledged} acknowledged, {unknown} not known"]


def inserted(stored, told, worker):
    acknowledged, unknown = told
    wrong = []
    numbers = [document["number"] for document in stored]
    if lost := acknowledged - set(numbers):
        wrong.append(f"worker {worker}: acknowledged inserts are lost: {sorted(lost)}")
    if len(numbers) != len(set(numbers)):
        wrong.append(f"worker {worker}: inserted more than once: {sorted(numbers)}")
    if strange := set(numbers) - acknowledged - unknown:
        wrong.append(f"worker {worker}: inserted without being told to: {sorted(strange)}")
    for document in stored:
        name = f"{worker}-{document['number']}"
        if (document["_id"], document["ssn"], document["note"]) != (name, f"ssn {name}", f"note {name}"):
            wrong.append(f"{document['_id']} holds the values of another")
    return wrong


def found_by_equality(people):
    """Every tenth document, by its sealed field."""
    wrong = []
    for document in people.find({}).sort("number", 1):
        if document["number"] % 10 == 0:
            found = list(people.find({"ssn": document["ssn"]}, {"_id": 1}))
            if found != [{"_id": document["_id"]}]:
                wrong.append(f"by the sealed field of {document['_id']}: {found}")
    return wrong


def wait_for_all(writers, since, times):
    """Waits until every worker did everything so often since then; gives the labels of those that did not."""
    deadline = time.monotonic() + PATIENCE
    while True:
        ended = [writer.label() for writer in writers if writer.process.poll() is not None]
        if ended:
            return ended
        late = [writer.label() for writer in writers if writer.succeeded_since(since) < times]
        if not late or time.monotonic() > deadline:
            return late
        time.sleep(0.2)


def plain_text_stored(client, database):
    """Documents of which a sealed field is stored as it was written."""
    pattern = re.compile("^(ssn|note) ")
    return client[database].people.count_documents({"$or": [{"ssn": pattern}, {"note": pattern}]})
