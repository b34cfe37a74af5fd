"""A replica set of three members that fails when told to, and the proxy in front of it."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pymongo

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/drivers"))

import servers  # noqa: E402

# An election takes two to four seconds, in place of the usual ten to twelve.
SETTINGS = {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500}

SCHEMA = """
[collections."failures_*.people".fields]
ssn  = { type = "string", queries = ["equality"], audit = true }
note = {}
"""


class Member(servers.Mongod):
    """One mongod, which can crash, freeze and come back."""

    def __init__(self, scratch):
        super().__init__(scratch, others=None)
        self.frozen = False

    def name(self):
        return f"127.0.0.1:{self.port}"

    def restart(self):
        self.log.unlink()
        self.launch()
        if not self.wait_for(self.log, lambda text: '"Waiting for connections"' in text):
            raise RuntimeError(f"mongod does not start again: {self.output.read_text(errors='replace')}")

    def freeze(self):
        os.kill(self.pid(), signal.SIGSTOP)
        self.frozen = True

    def thaw(self):
        os.kill(self.pid(), signal.SIGCONT)
        self.frozen = False

    def ask(self, command, value=1, **rest):
        with pymongo.MongoClient(self.direct_uri(), serverSelectionTimeoutMS=3000, socketTimeoutMS=5000) as client:
            return client.admin.command(command, value, **rest)


class Set:
    """Three members with equal priorities, so that nobody takes over without need."""

    def __init__(self, scratch):
        self.scratch = scratch
        self.members = []
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                self.members.append(stack.enter_context(Member(scratch)))
            members = [{"_id": number, "host": member.name()} for number, member in enumerate(self.members)]
            self.members[0].ask("replSetInitiate", {"_id": "rs", "members": members, "settings": SETTINGS})
            self.wait_until_whole()
            self.stack = stack.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in self.members:
            if member.frozen:
                member.thaw()
        self.stack.close()

    def uri(self):
        return f"mongodb://{','.join(member.name() for member in self.members)}/?replicaSet=rs"

    def states(self):
        """What each member says of itself."""
        states = []
        for member in self.members:
            with contextlib.suppress(pymongo.errors.PyMongoError):
                hello = member.ask("hello")
                states.append("primary" if hello["isWritablePrimary"] else "secondary" if hello["secondary"] else "?")
        return states

    def wait_until_whole(self):
        deadline = time.monotonic() + servers.PATIENCE
        while sorted(states := self.states()) != ["primary", "secondary", "secondary"]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the set is not whole again: {states}")
            time.sleep(0.2)

    def primary(self):
        deadline = time.monotonic() + servers.PATIENCE
        while time.monotonic() < deadline:
            for member in self.members:
                with contextlib.suppress(pymongo.errors.PyMongoError):
                    if not member.frozen and member.ask("hello")["isWritablePrimary"]:
                        return member
            time.sleep(0.1)
        raise TimeoutError("no primary")

    def secondary(self):
        primary = self.primary()
        return next(member for member in self.members if member is not primary)

    def reconfigure(self, members):
        """Gives the set other members, by their number and address."""
        primary = self.primary()
        configuration = primary.ask("replSetGetConfig")["config"]
        configuration["version"] += 1
        configuration["members"] = members(configuration["members"])
        primary.ask("replSetReconfig", configuration)


class Proxy(servers.Proxy):
    """Three routes; it can crash, and come back on the same ports."""

    def __init__(self, program, scratch, upstreams, further=""):
        super().__init__(program, scratch, upstreams, SCHEMA, further=further)
        configuration = self.folder / "fieldseal.toml"
        text = configuration.read_text()
        for address in self.addresses:
            text = text.replace('"127.0.0.1:0"', f'"{address}"', 1)
        configuration.write_text(text)

    def restart(self):
        self.launch()
        if not self.wait_for(self.log, lambda text: len(re.findall("listening", text)) >= len(self.addresses)):
            raise RuntimeError(f"the proxy does not start again:\n{self.log_tail()}")

    def running(self):
        return self.process.poll() is None


class SmallDisk:
    """A file system of 4 MB that can be filled."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder], capture_output=True)
        self.mounted = done.returncode == 0

    def fill(self):
        with open(self.folder / "filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(512))

    def empty(self):
        (self.folder / "filler").unlink()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.mounted:
            subprocess.run(["umount", self.folder], check=False)
