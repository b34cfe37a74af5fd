"""PyMongo's own tests: where they come from, how they are run, what came out."""

import contextlib
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree
from dataclasses import dataclass
from importlib.metadata import version

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "drivers"))
import servers

# Those of its databases that most tests use.
DATABASES = ("pymongo_test", "test", "retryable-writes-tests", "transaction-tests", "change-stream-tests")

# A run that takes longer hangs; one test of it, if it takes longer than pytest is told below.
PATIENCE = 3600
TEST_PATIENCE = 120

MONGOD_PARAMETERS = ("enableTestCommands=1", "transactionLifetimeLimitSeconds=3")

# The files of tests that talk to a server, but for encryption, TLS and load balancers.
FILES = [
    f"test_{name}.py"
    for name in """
    bulk causal_consistency change_stream client client_bulk_write client_context client_metadata collation
    collection collection_management command_logging command_monitoring comment common connection_logging
    connection_monitoring connections_survive_primary_stepdown_spec create_entities crud_unified csot cursor
    custom_types database dbref decimal128 discovery_and_monitoring examples grid_file gridfs gridfs_bucket
    gridfs_spec handshake_unified heartbeat_monitoring hello_latched index_management max_staleness
    monitor monitoring operation_id_retry pooling raw_bson read_concern read_preferences read_write_concern_spec
    replica_set_reconfig results retryable_reads retryable_reads_unified retryable_writes
    retryable_writes_unified run_command sdam_monitoring_spec server_selection server_selection_in_window
    server_selection_logging session sessions_unified sfp streaming_protocol threads topology
    transactions transactions_unified unified_format versioned_api versioned_api_integration write_concern
    """.split()
]

# What runs with the driver tests.
QUICK = [f"test_{name}.py" for name in ("bulk", "collection", "cursor", "session")]


@dataclass
class Outcome:
    """What became of one test: `passed`, `failed` or `skipped`, and what it said."""

    kind: str
    text: str


def fetch(root):
    """The folder with `test/` of the driver that is installed; downloaded once."""
    release = version("pymongo")
    folder = root / "target" / "suites" / f"pymongo-{release}"
    if folder.exists():
        return folder
    print(f"fetching the source of PyMongo {release}", flush=True)
    with tempfile.TemporaryDirectory() as download:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        only = ["--no-deps", "--no-binary=pymongo", "--dest", download, f"pymongo=={release}"]
        subprocess.run([*pip, *only], check=True)
        archive = next(pathlib.Path(download).glob("*.tar.gz"))
        partial = folder.with_suffix(f".partial-{os.getpid()}")
        # Not its package: the tests are to run against the driver that is installed.
        wanted = (f"pymongo-{release}/test/", f"pymongo-{release}/pyproject.toml")
        with tarfile.open(archive) as source:
            members = [member for member in source.getmembers() if member.name.startswith(wanted)]
            source.extractall(partial, members, filter="data")
    (partial / f"pymongo-{release}").rename(folder)
    partial.rmdir()
    return folder


def node(name):
    """How pytest is told to run one test: from `test.test_bulk.TestBulk::test_x` of its results."""
    classes, _, function = name.partition("::")
    words = classes.split(".")
    module = next(index for index, word in enumerate(words) if word.startswith("test_"))
    return "::".join(["/".join(words[1 : module + 1]) + ".py", *words[module + 1 :], function])


class Runs:
    """Runs of the tests in `source`, with `program` as the proxy, on replica sets of so many members."""

    def __init__(self, source, program, members):
        self.source = source
        self.program = program
        self.members = members

    def run(self, mode, schema, tests, folder):
        """Each test's outcome, with a mongod of its own, through a proxy unless the schema is None."""
        folder.mkdir(parents=True)
        program = None if schema is None else self.program
        with contextlib.ExitStack() as running:
            set_of = {"parameters": MONGOD_PARAMETERS, "cache": 0.5}
            others = [running.enter_context(servers.Mongod(folder, others=None, **set_of)) for _ in range(self.members - 1)]
            primary = running.enter_context(servers.Mongod(folder, others=others, **set_of))
            mongods = [primary, *others]
            proxy = running.enter_context(servers.proxy_or_none(program, folder, mongods, schema))
            since = [mongod.log_length() for mongod in mongods]
            address = proxy.addresses[0] if proxy else f"127.0.0.1:{primary.port}"
            print(f"{mode}: {len(tests)} files or tests at {address}", flush=True)
            outcomes = self.pytest(address, tests, folder)
            if proxy:
                prove_no_way_round(mongods, proxy, since)
        return outcomes

    def pytest(self, address, tests, folder):
        host, _, port = address.partition(":")
        results = folder / "results.xml"
        environment = {**os.environ, "DB_IP": host, "DB_PORT": port, "HOME": str(folder)}
        with open(folder / "pytest.log", "wb") as log:
            subprocess.run(
                [
                    *(sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"),
                    *(f"--timeout={TEST_PATIENCE}", f"--junitxml={results}", "-o", "log_cli_level=CRITICAL"),
                    *(f"test/{test}" for test in tests),
                ],
                cwd=self.source,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=PATIENCE,
            )
        if not results.exists():
            raise RuntimeError(f"pytest did not run:\n{(folder / 'pytest.log').read_text(errors='replace')[-3000:]}")
        return outcomes(results)


def outcomes(results):
    """From pytest's XML: the worst of what it says about each test."""
    found = {}
    for case in xml.etree.ElementTree.parse(results).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        skipped = case.find("skipped")
        if bad is not None:
            outcome = Outcome("failed", bad.text or bad.get("message") or "")
        elif skipped is not None:
            outcome = Outcome("skipped", skipped.get("message") or "")
        else:
            outcome = Outcome("passed", "")
        if name not in found or found[name].kind != "failed":
            found[name] = outcome
    return found


def prove_no_way_round(mongods, proxy, since):
    """Every connection that a mongod accepted since then is the proxy's or another mongod's."""
    accepted = 0
    for mongod, start in zip(mongods, since):

        def strangers():
            clients, own = mongod.connections(start)
            return clients - own - proxy.upstream_addresses(0)

        left = servers.settle(strangers)
        if left:
            raise RuntimeError(f"connections past the proxy: {sorted(left)}")
        accepted += len(mongod.connections(start)[0] & proxy.upstream_addresses(0))
    if not accepted:
        raise RuntimeError("no connection came from the proxy: this proves nothing")
