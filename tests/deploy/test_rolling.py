"""Proxies are restarted under PyMongo: what it writes is done, once, and it sees no error."""

import os
import pathlib
import shutil
import signal
import socket
import tempfile
import threading
import time
import unittest

import servers
import test_running
from test_systemd import child

RESTARTS = 4
WRITERS = 4
PATIENCE = 60


class Writer(threading.Thread):
    """Counts, one after the other, until it is told to end."""

    def __init__(self, client, number, in_transactions):
        super().__init__(daemon=True)
        self.client = client
        self.customers = client.musiccorp.customers
        self.number = number
        self.step = self.in_transaction if in_transactions else self.plainly
        self.count = 0
        self.ending = threading.Event()
        self.error = None

    def run(self):
        try:
            self.customers.insert_one({"_id": self.number, "n": 0, "other": 0, "email": self.email(0)})
            while not self.ending.is_set():
                self.step()
                self.count += 1
                found = self.customers.find_one({"email": self.email(self.count)})
                if found["n"] != self.count:
                    raise ValueError(f"{found['n']} is counted, not {self.count}")
        except Exception as error:
            self.error = error

    def email(self, count):
        return f"{self.number}.{count}@example.com"

    def plainly(self):
        change = {"$inc": {"n": 1}, "$set": {"email": self.email(self.count + 1)}}
        self.customers.update_one({"_id": self.number}, change)

    def in_transaction(self):
        def both(session):
            change = {"$inc": {"n": 1}, "$set": {"email": self.email(self.count + 1)}}
            self.customers.update_one({"_id": self.number}, change, session=session)
            self.customers.update_one({"_id": self.number}, {"$inc": {"other": 1}}, session=session)

        with self.client.start_session() as session:
            session.with_transaction(both)


class Rolling(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="fieldseal-rolling-")
        cls.addClassCleanup(cls.folder.cleanup)
        cls.stage = test_running.Stage(pathlib.Path(cls.folder.name))
        cls.addClassCleanup(cls.stage.stop)

    def begin(self, port, shared="true", advertise=None):
        """A proxy at this port; `advertise` is the port that drivers are told of."""
        more = {
            "FIELDSEAL__ROUTE__0__LISTEN": f"127.0.0.1:{port}",
            "FIELDSEAL__ROUTE__0__ADVERTISE": f"127.0.0.1:{advertise or port}",
            "FIELDSEAL__ROUTE__0__REUSE_PORT": shared,
        }
        proxy = test_running.Proxy(self.stage.place, self.stage.mongod, more=more)
        self.addCleanup(proxy.stop)
        proxy.port = port
        return proxy

    def end(self, proxy):
        """Ends it as systemd and Kubernetes do."""
        os.kill(child(proxy.process.pid), signal.SIGTERM)
        self.assertEqual(proxy.process.wait(PATIENCE), 0)
        self.assertNotIn("cut off", proxy.log.read_text())

    def more(self, writers):
        """Waits until each has counted further."""
        wanted = [writer.count + 5 for writer in writers]
        deadline = time.monotonic() + PATIENCE
        while any(writer.count < count for writer, count in zip(writers, wanted, strict=True)):
            self.assertEqual([writer.error for writer in writers if writer.error], [])
            self.assertLess(time.monotonic(), deadline, "nothing is written any more")
            time.sleep(0.02)

    def roll(self, at, restart, first):
        """Restarts what is at this place while writers write, the first of whom has this number."""
        clients = [self.stage.through(proxy=at, **self.stage.user()) for _ in range(2)]
        writers = [Writer(clients[n % 2], first + n, n == WRITERS - 1) for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        self.more(writers)
        for _ in range(RESTARTS):
            restart()
            self.more(writers)
        for writer in writers:
            writer.ending.set()
        for writer in writers:
            writer.join(PATIENCE)
        self.assertEqual([writer.error for writer in writers], [None] * WRITERS)
        stored = self.stage.direct("database_proxy.pem", **self.stage.user())
        with stored:
            for writer in writers:
                found = stored.musiccorp.customers.find_one({"_id": writer.number})
                self.assertEqual(found["n"], writer.count)
                self.assertEqual(found["other"], writer.count if writer is writers[-1] else 0)
        for client in clients:
            client.close()

    def test_one_that_begins_beside_another_takes_over(self):
        port = servers.free_port()
        running = [self.begin(port)]

        def restart():
            running.append(self.begin(port))
            self.end(running.pop(0))

        self.roll(running[0], restart, 1000)

    def test_one_that_ends_before_another_begins_is_waited_for(self):
        port = servers.free_port()
        running = [self.begin(port, "false")]

        def restart():
            self.end(running.pop())
            running.append(self.begin(port, "false"))

        self.roll(running[0], restart, 2000)

    @unittest.skipUnless(shutil.which("haproxy"), "no haproxy here")
    def test_two_behind_haproxy_are_restarted_in_turn(self):
        front = servers.free_port()
        ports = [servers.free_port() for _ in range(2)]
        running = [self.begin(port, "false", front) for port in ports]
        with HAProxy(pathlib.Path(self.folder.name), front, ports) as haproxy:

            def restart():
                port = running[0].port
                self.end(running.pop(0))
                running.append(self.begin(port, "false", front))
                # As one does who restarts all of a service: not the next before this one is back.
                haproxy.wait_until_up(ports.index(port))

            self.roll(haproxy, restart, 3000)


class HAProxy(servers.Server):
    """As docs/running.md has it, but for one member, and asked by TCP whether proxies are there."""

    def __init__(self, folder, port, behind):
        self.port = port
        self.socket = folder / "haproxy.sock"
        lines = [f"    server p{n} 127.0.0.1:{behind[n]}" for n in range(len(behind))]
        configuration = folder / "haproxy.cfg"
        configuration.write_text(CONFIGURATION.format(socket=self.socket, port=port) + "\n".join(lines) + "\n")
        super().__init__(["haproxy", "-db", "-f", configuration], folder / "haproxy.log")
        for server in range(len(behind)):
            self.wait_until_up(server)

    def wait_until_up(self, server):
        deadline = time.monotonic() + PATIENCE
        while not self.is_up(server):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(self.output.read_text())
            time.sleep(0.1)

    def is_up(self, server):
        with socket.socket(socket.AF_UNIX) as asking:
            try:
                asking.connect(str(self.socket))
            except OSError:
                return False
            asking.sendall(b"show stat\n")
            told = asking.makefile().read()
        (line,) = [line for line in told.splitlines() if line.startswith(f"member-0,p{server},")]
        return ",UP," in line


CONFIGURATION = """
global
    stats socket {socket} level admin
listen member-0
    bind 127.0.0.1:{port}
    mode tcp
    balance leastconn
    option redispatch 1
    retries 3
    timeout connect 2s
    timeout client  1h
    timeout server  1h
    default-server check inter 200ms fall 1 rise 1
"""
