"""One proxy takes over from another at the same address, under PyMongo: what it writes is done, once, and
it sees no error."""

import os
import pathlib
import signal
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
        folder = tempfile.TemporaryDirectory(prefix="fieldseal-rolling-")
        cls.addClassCleanup(folder.cleanup)
        cls.stage = test_running.Stage(pathlib.Path(folder.name))
        cls.addClassCleanup(cls.stage.stop)

    def begin(self, port, shared):
        """A proxy at this port."""
        address = f"127.0.0.1:{port}"
        more = {
            "FIELDSEAL__ROUTE__0__LISTEN": address,
            "FIELDSEAL__ROUTE__0__ADVERTISE": address,
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

    def roll(self, restart, first):
        port = servers.free_port()
        proxy = self.begin(port, "true")
        clients = [self.stage.through(proxy=proxy, **self.stage.user()) for _ in range(2)]
        writers = [Writer(clients[n % 2], first + n, n == WRITERS - 1) for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        self.more(writers)
        for _ in range(RESTARTS):
            proxy = restart(port, proxy)
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
        def restart(port, old):
            new = self.begin(port, "true")
            self.end(old)
            return new

        self.roll(restart, 1000)

    def test_one_that_ends_before_another_begins_is_waited_for(self):
        def restart(port, old):
            self.end(old)
            return self.begin(port, "true")

        self.roll(restart, 2000)
