"""What goes wrong: each scenario makes ready, breaks something, and mends it."""

import contextlib
import time

import pymongo

import cluster
from relay import Relay

HOLD = 4


class Scenario:
    """Nothing goes wrong."""

    name = ""
    # Whether what breaks is between the proxy and MongoDB, or the proxy: drivers without it do not notice.
    only_through = False
    reading = "primary"
    audit = None

    def __init__(self, group, scratch, program, stack):
        self.group, self.scratch, self.stack = group, scratch, stack
        further = self.audit_section()
        self.proxy = stack.enter_context(cluster.Proxy(program, scratch, self.upstreams(), further))

    def audit_section(self):
        return ""

    def upstreams(self):
        return self.group.members

    def break_it(self):
        raise NotImplementedError

    def mend(self):
        """Puts it right, after a time."""

    def look(self):
        """What is wrong with the proxy when all is over."""
        return []


class Crash(Scenario):
    name = "primary killed"

    def break_it(self):
        self.member = self.group.primary()
        self.member.kill()

    def mend(self):
        self.member.restart()


class StepDown(Scenario):
    name = "primary steps down"

    def break_it(self):
        with contextlib.suppress(pymongo.errors.ConnectionFailure):
            self.group.primary().ask("replSetStepDown", 5, force=True)


class NewMember(Scenario):
    name = "member without a route"

    def break_it(self):
        self.member = self.stack.enter_context(cluster.Member(self.scratch))
        new = {"_id": 9, "host": self.member.name(), "priority": 0, "votes": 0}
        self.group.reconfigure(lambda members: [*members, new])

    def mend(self):
        time.sleep(HOLD)
        state = self.member.ask("hello").get("setName")
        self.group.reconfigure(lambda members: [member for member in members if member["_id"] != 9])
        assert state == "rs", "it did not become a member"

    def look(self):
        told = [line for line in self.proxy.log.read_text().splitlines() if self.member.name() in line and "WARN" in line]
        return [] if len(told) == 1 else [f"the proxy told {len(told)} times of the member without a route"]


class FrozenPrimary(Scenario):
    name = "primary frozen"

    def break_it(self):
        self.member = self.group.primary()
        self.member.freeze()

    def mend(self):
        time.sleep(2 * HOLD)
        self.member.thaw()


class FrozenSecondary(FrozenPrimary):
    name = "secondary frozen"
    reading = "secondaryPreferred"

    def break_it(self):
        self.member = self.group.secondary()
        self.member.freeze()


class SilentUpstream(Scenario):
    name = "a secondary's upstream silent"
    only_through = True

    def silent(self):
        return self.group.secondary()

    def upstreams(self):
        silent = self.silent()
        self.relay = self.stack.enter_context(Relay(silent.port))
        return [self.relay if member is silent else member for member in self.group.members]

    def break_it(self):
        self.relay.silent = True

    def mend(self):
        time.sleep(HOLD)
        self.relay.silent = False


class SilentPrimary(SilentUpstream):
    """MongoDB is well and elects no other: writes wait until the network is mended."""

    name = "the primary's upstream silent"

    def silent(self):
        return self.group.primary()


class SilentFromTheStart(SilentUpstream):
    name = "an upstream silent from the start"

    def upstreams(self):
        upstreams = super().upstreams()
        self.relay.silent = True
        return upstreams

    def break_it(self):
        pass

    def mend(self):
        time.sleep(HOLD / 2)


class ProxyKilled(Scenario):
    name = "proxy killed"
    only_through = True

    def break_it(self):
        self.proxy.kill()

    def mend(self):
        time.sleep(1)
        self.proxy.restart()


class CutReplies(Scenario):
    name = "connections cut within a reply"
    only_through = True

    def upstreams(self):
        self.relays = [self.stack.enter_context(Relay(member.port)) for member in self.group.members]
        return self.relays

    def break_it(self):
        for relay in self.relays:
            relay.one_in = 15

    def mend(self):
        time.sleep(HOLD)
        for relay in self.relays:
            relay.one_in = 0

    def look(self):
        return [] if sum(relay.cuts for relay in self.relays) > 5 else ["too few replies were cut to prove anything"]


class FullDisk(Scenario):
    name = "audit disk full, refuse"
    only_through = True
    on_failure = "refuse"

    def audit_section(self):
        self.disk = self.stack.enter_context(cluster.SmallDisk(self.scratch / "disk"))
        return f'[audit]\nfile = "{self.disk.folder}/audit.jsonl"\non_failure = "{self.on_failure}"\n'

    def break_it(self):
        self.disk.fill()

    def mend(self):
        time.sleep(HOLD)
        self.disk.empty()

    def look(self):
        if not self.disk.mounted:
            return []
        log = self.proxy.log.read_text()
        missing = [words for words in ("the audit log cannot be written", "written again") if words not in log]
        return [f"the proxy's log does not say: {words}" for words in missing]


class FullDiskWarning(FullDisk):
    name = "audit disk full, warn"
    on_failure = "warn"


ALL = [
    Crash,
    StepDown,
    NewMember,
    FrozenPrimary,
    FrozenSecondary,
    SilentUpstream,
    SilentPrimary,
    SilentFromTheStart,
    ProxyKilled,
    CutReplies,
    FullDisk,
    FullDiskWarning,
]
