"""The systemd unit: what systemd says of it, and that the program needs nothing that it forbids."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import shipped
import test_running

UNIT = shipped.ROOT / "deploy/fieldseal.service"
# Of 10; what is left is the network, which it is there for.
EXPOSURE = 1.5


def settings(name):
    """The values of a setting, in their order."""
    lines = UNIT.read_text().splitlines()
    return [line.split("=", 1)[1] for line in lines if line.startswith(f"{name}=")]


def analyze(*words):
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True)


@unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd-analyze here (package systemd)")
class Unit(unittest.TestCase):
    def test_systemd_finds_nothing_wrong_in_it(self):
        with tempfile.TemporaryDirectory(prefix="fieldseal-systemd-") as folder:
            copy = pathlib.Path(folder) / UNIT.name
            copy.write_text(UNIT.read_text().replace("/usr/local/bin/fieldseal", shipped.program()))
            done = analyze("verify", copy)
            told = [line for line in (done.stdout + done.stderr).splitlines() if UNIT.name in line]
            self.assertEqual((done.returncode, told), (0, []))
            # It does notice.
            copy.write_text(copy.read_text().replace("ProtectSystem=strict", "ProtectSystem=strickt"))
            done = analyze("verify", copy)
            self.assertIn("strickt", done.stdout + done.stderr)

    def test_it_is_exposed_to_little_but_the_network(self):
        done = analyze("security", "--offline=true", "--no-pager", str(UNIT))
        found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
        self.assertIsNotNone(found, done.stdout + done.stderr)
        self.assertLessEqual(float(found[1]), EXPOSURE)

    def test_it_runs_the_commands_that_the_program_has(self):
        for line in (*settings("ExecStartPre"), *settings("ExecStart")):
            command = [shipped.program(), *line.split()[1:], "--help"]
            self.assertEqual(subprocess.run(command, capture_output=True).returncode, 0, line)
        self.assertEqual(settings("ExecReload"), ["/bin/kill -HUP $MAINPID"])

    def test_it_gives_the_program_time_to_stop_and_as_many_files_as_its_defaults_need(self):
        # The defaults of limits.drain_timeout_seconds and limits.connections.
        self.assertGreater(int(settings("TimeoutStopSec")[0]), 8 + 5)
        self.assertGreater(int(settings("LimitNOFILE")[0]), 2 * 10_000 + 128)
        # The program tells when it serves, and that it lives: tests/it/life/service.rs.
        self.assertEqual(settings("Type"), ["notify"])
        self.assertTrue(settings("WatchdogSec"))


def allowed_calls():
    """The system calls that the unit's filters leave, as systemd has them in its sets."""
    allowed = set()
    for line in settings("SystemCallFilter"):
        words = line.lstrip("~").split()
        calls = set().union(*(expand(word) for word in words))
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    # Always allowed, as systemd.exec(5) says: among them those that a process needs to begin and end.
    return allowed | expand("@default")


def expand(name):
    if not name.startswith("@"):
        return {name}
    lines = analyze("syscall-filter", "--no-pager", name).stdout.splitlines()
    words = [line.strip() for line in lines if line.startswith("    ")]
    members = [word for word in words if word and not word.startswith("#")]
    return set().union(*(expand(word) for word in members))


def child(process):
    """The process of the program, below those that watch it."""
    children = pathlib.Path(f"/proc/{process}/task/{process}/children").read_text().split()
    for found in children:
        if os.path.realpath(f"/proc/{found}/exe") == os.path.realpath(shipped.program()):
            return int(found)
        if (below := child(found)) is not None:
            return below
    return None


@unittest.skipUnless(shutil.which("systemd-analyze") and shutil.which("strace"), "no systemd-analyze or no strace here")
class Sandbox(unittest.TestCase):
    """The proxy of the compose file, at work, with every system call of it written down."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="fieldseal-sandbox-")
        cls.addClassCleanup(cls.folder.cleanup)
        record = pathlib.Path(cls.folder.name) / "calls"
        # Its first call, which begins it, is systemd's own to make.
        watch = ["strace", "-f", "-qq", "-s", "0", "-o", record]
        try:
            stage = test_running.Stage(pathlib.Path(cls.folder.name), watch)
        except RuntimeError as error:
            if "ptrace" in str(error):
                raise unittest.SkipTest("strace may not trace here") from error
            raise
        try:
            cls.work(stage)
        finally:
            stage.stop()
        cls.calls = [line.split(None, 1)[1] for line in record.read_text(errors="replace").splitlines()]

    @classmethod
    def work(cls, stage):
        """A write, a read, a reload, and an end."""
        with stage.through(**stage.user()) as client:
            client.musiccorp.customers.insert_one(dict(test_running.PERSON))
            client.musiccorp.customers.find_one({"email": test_running.PERSON["email"]})
        schema = stage.proxy.folder / "schema/musiccorp.toml"
        schema.write_text(schema.read_text() + "\n# changed\n")
        proxy = child(stage.proxy.process.pid)
        os.kill(proxy, signal.SIGHUP)
        if not stage.proxy.wait_for(stage.proxy.log, lambda text: "taken up anew" in text):
            raise RuntimeError("nothing was taken up")
        os.kill(proxy, signal.SIGTERM)
        deadline = time.monotonic() + 30
        while stage.proxy.process.poll() is None:
            if time.monotonic() > deadline:
                raise TimeoutError("the proxy does not end")
            time.sleep(0.05)

    def test_it_makes_no_system_call_that_the_unit_forbids(self):
        made = {found[1] for line in self.calls if (found := re.match(r"([a-z0-9_]+)\(", line))}
        # It was seen at work, and at its end.
        self.assertLessEqual({"accept4", "connect", "exit_group", "openat", "epoll_wait"}, made)
        allowed = allowed_calls()
        self.assertNotIn("mount", allowed)
        self.assertEqual(made - allowed, set())

    def test_it_makes_no_memory_executable_that_it_can_write(self):
        for line in self.calls:
            if line.startswith(("mmap(", "mprotect(")):
                self.assertFalse("PROT_WRITE" in line and "PROT_EXEC" in line, line)
            if line.startswith("mprotect("):
                self.assertNotIn("PROT_EXEC", line)

    def test_it_opens_sockets_of_the_families_that_the_unit_allows(self):
        allowed = set(settings("RestrictAddressFamilies")[0].split())
        families = {line.split("(")[1].split(",")[0] for line in self.calls if line.startswith(("socket(", "socketpair("))}
        self.assertIn("AF_INET", families)
        self.assertLessEqual(families, allowed)

    def test_it_opens_no_file_for_writing_but_in_its_state_directory(self):
        # `keyring` stands for it here.
        state = re.escape(f"{self.folder.name}/volumes/keyring/")
        opened = [line for line in self.calls if line.startswith(("open(", "openat("))]
        self.assertTrue(opened)
        writing = [line for line in opened if re.search("O_WRONLY|O_RDWR|O_CREAT", line)]
        for line in writing:
            self.assertRegex(line, rf'^openat\(AT_FDCWD, "{state}')
        for call in ("ptrace(", "fork(", "vfork(", "chmod(", "chown(", "unlink("):
            self.assertFalse([line for line in self.calls if line.startswith(call)], call)
