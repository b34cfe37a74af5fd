"""The services of docker-compose.yml as they are there, run on this machine: mongod with its options,
the proxy with its configuration, the scripts. Then: a service gets through, and nobody gets round.
"""

import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import unittest

import pymongo
import servers
import shipped
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

# How long a client that must not get in tries to.
TRY = 1500
MONGOSH = shipped.ROOT / "tests/drivers/node/node_modules/mongosh/bin/mongosh.js"
PERSON = {"_id": 1, "name": "Ada Marsh", "email": "ada@example.com", "plan": "gold"}


def on_path(folder):
    """An environment in which `mongod` is the one of the tests."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    mongod = servers.mongod_command(0, folder, folder, 0)[0]
    if not (programs / "mongod").exists():
        (programs / "mongod").symlink_to(mongod)
    return {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}


class Mongod(servers.Server):
    def __init__(self, place):
        self.port = servers.free_port()
        command = place.command("mongodb")
        # Where it listens and keeps its data is all that is another here.
        command[command.index("--bind_ip=0.0.0.0")] = "--bind_ip=127.0.0.1"
        data = place.paths("mongodb")["/data/db"]
        self.log = place.folder / "mongod.log"
        super().__init__([*command, f"--port={self.port}", f"--dbpath={data}"], self.log, on_path(place.folder))
        if not self.wait_for(self.log, lambda text: '"Waiting for connections"' in text):
            raise RuntimeError(f"mongod does not start:\n{self.log.read_text()[-3000:]}")


class Proxy(servers.Server):
    """The proxy; `more` are further variables of its environment."""

    def __init__(self, place, mongod, watch=(), more=None):
        self.port = servers.free_port()
        folder = place.folder / f"etc-fieldseal-{self.port}"
        folder.mkdir()
        self.folder = folder
        shutil.copytree(place.paths("fieldseal")["/etc/fieldseal/schema"], folder / "schema")
        text = place.paths("fieldseal")["/etc/fieldseal/fieldseal.toml"].read_text()
        (folder / "fieldseal.toml").write_text(place.here("fieldseal", text))
        # Where it listens and MongoDB is, is all that is another here.
        environment = {
            **os.environ,
            "NO_COLOR": "1",
            "FIELDSEAL__ROUTE__0__LISTEN": f"127.0.0.1:{self.port}",
            "FIELDSEAL__ROUTE__0__UPSTREAM": f"127.0.0.1:{mongod.port}",
            "FIELDSEAL__ROUTE__0__ADVERTISE": f"127.0.0.1:{self.port}",
            **(more or {}),
        }
        keys, serve = ([shipped.program(), *place.command(service)] for service in ("keys", "fieldseal"))
        if not (place.paths("keys")["/var/lib/fieldseal"] / "keyring.json").exists():
            subprocess.run(keys, cwd=folder, env=environment, check=True, capture_output=True)
        self.log = folder / "log"
        # The image's working directory is where the configuration is mounted.
        command = ["env", "--chdir", folder, *watch, *serve]
        super().__init__(command, self.log, environment)
        if not self.wait_for(self.log, lambda text: "serving" in text):
            raise RuntimeError(f"the proxy does not start:\n{self.log.read_text()}")


class Stage:
    """All services, up."""

    def __init__(self, folder, watch=()):
        self.place = shipped.Place(folder)
        self.mongod = Mongod(self.place)
        try:
            self.told = [self.make_users(), self.make_users()]
            self.proxy = Proxy(self.place, self.mongod, watch)
        except BaseException:
            self.mongod.stop()
            raise

    def stop(self):
        self.proxy.stop()
        self.mongod.stop()

    def password(self, who):
        return self.place.secret(f"mongodb_{who}_password").read_text().strip()

    def make_users(self):
        """Runs the service `users`; without mongosh, does what its script does."""
        if not (MONGOSH.exists() and shutil.which("node")):
            return self.make_users_by_hand()
        command = self.place.command("users")
        secrets = self.place.secret("mongodb_admin_password").parent
        member = f"127.0.0.1:{self.mongod.port}"
        environment = {**os.environ, "HOME": str(self.place.folder), "SECRETS": str(secrets), "MEMBER": member}
        command = ["node", MONGOSH, *command[1:], f"--port={self.mongod.port}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise RuntimeError(f"the users are not made:\n{done.stdout}{done.stderr}")
        return done.stdout

    def make_users_by_hand(self):
        with self.direct("database_mongod.pem") as client:
            if client.admin.command("hello").get("setName"):
                return None
            member = {"_id": 0, "host": f"127.0.0.1:{self.mongod.port}"}
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": [member]})
            while not client.admin.command("hello")["isWritablePrimary"]:
                time.sleep(0.1)
            roles = ["userAdminAnyDatabase", "clusterAdmin"]
            client.admin.command("createUser", "admin", pwd=self.password("admin"), roles=roles)
        with self.direct("database_mongod.pem", username="admin", password=self.password("admin")) as client:
            client.musiccorp.command("createUser", "musiccorp", pwd=self.password("service"), roles=["readWrite"])

    def user(self):
        return {"username": "musiccorp", "password": self.password("service"), "authSource": "musiccorp"}

    def secret(self, name):
        made = self.place.compose["secrets"]
        return str(self.place.secret(name) if name in made else self.place.secret("services_ca.pem").parent / name)

    def direct(self, certificate=None, ca="database_ca.pem", tls=True, **more):
        """Past the proxy."""
        return self.client(self.mongod.port, certificate, ca, tls, directConnection=True, **more)

    def through(self, certificate="services_client.pem", ca="services_ca.pem", tls=True, proxy=None, **more):
        port = (proxy or self.proxy).port
        return self.client(port, certificate, ca, tls, **{"replicaSet": "rs0", **more})

    def client(self, port, certificate, ca, tls, **more):
        options = {"serverSelectionTimeoutMS": 30_000, **more}
        if tls:
            options |= {"tls": True, "tlsCAFile": self.secret(ca)}
        if certificate:
            path = certificate if os.path.isabs(certificate) else self.secret(certificate)
            options["tlsCertificateKeyFile"] = path
        return pymongo.MongoClient("127.0.0.1", port, **options)


class Running(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="fieldseal-running-")
        cls.addClassCleanup(cls.folder.cleanup)
        cls.stage = Stage(pathlib.Path(cls.folder.name))
        cls.addClassCleanup(cls.stage.stop)

    def assert_turned_away(self, client):
        with client, self.assertRaises(AutoReconnect) as raised:
            client.musiccorp.customers.find_one({"_id": 1})
        return str(raised.exception)

    def test_the_users_are_made_by_the_script_and_a_second_run_finds_them(self):
        if self.stage.told[0] is None:
            self.skipTest("no mongosh here: the users were made by hand")
        for told in self.stage.told:
            self.assertIn("the replica set and its users are there", told)

    def test_a_service_writes_and_reads_through_the_proxy_and_mongodb_has_it_sealed(self):
        with self.stage.through(**self.stage.user()) as client:
            customers = client.musiccorp.customers
            customers.replace_one({"_id": 1}, PERSON, upsert=True)
            self.assertEqual(customers.find_one({"email": PERSON["email"]}), PERSON)
            # It was told of the proxy alone.
            self.assertEqual(client.nodes, {("127.0.0.1", self.stage.proxy.port)})
        # With the proxy's own certificate, which no service has.
        with self.stage.direct("database_proxy.pem", **self.stage.user()) as client:
            stored = client.musiccorp.customers.find_one({"_id": 1})
        self.assertEqual(stored["plan"], "gold")
        self.assertEqual(stored["name"].subtype, 0x8F)
        self.assertEqual(stored["email"]["c"].subtype, 0x8F)

    def test_nobody_gets_round_the_proxy_not_even_with_a_right_password(self):
        user = self.stage.user()
        short = {"serverSelectionTimeoutMS": TRY}
        stranger = self.other_authority()
        for what, certificate, tls in (
            ("without TLS", None, False),
            ("no certificate", None, True),
            ("a service's certificate", "services_client.pem", True),
            ("the proxy's certificate for services", "services_proxy.pem", True),
            ("another authority's, of the proxy's name", f"{stranger}/proxy.pem", True),
        ):
            with self.subTest(what):
                self.assert_turned_away(self.stage.direct(certificate, tls=tls, **user, **short))
        # What is right but for its certificate gets in with that.
        with self.stage.direct("database_proxy.pem", **user, **short) as client:
            client.musiccorp.customers.find_one({"_id": 1})

    def test_a_certificate_is_not_enough_without_a_password(self):
        for client in (self.stage.direct("database_proxy.pem"), self.stage.through()):
            with client, self.assertRaises(OperationFailure) as raised:
                client.musiccorp.customers.find_one({"_id": 1})
            self.assertEqual(raised.exception.code, 13)
        with self.stage.through(**{**self.stage.user(), "password": "guess"}) as client:
            with self.assertRaises(OperationFailure) as raised:
                client.musiccorp.customers.find_one({"_id": 1})
            self.assertEqual(raised.exception.code, 18)

    def test_a_password_is_not_enough_without_a_service_certificate(self):
        user, short = self.stage.user(), {"serverSelectionTimeoutMS": TRY}
        for what, certificate, tls in (
            ("without TLS", None, False),
            ("no certificate", None, True),
            ("the proxy's certificate for MongoDB", "database_proxy.pem", True),
            ("another authority's", f"{self.other_authority()}/client.pem", True),
        ):
            with self.subTest(what):
                self.assert_turned_away(self.stage.through(certificate, tls=tls, **user, **short))

    def test_mongod_speaks_nothing_older_than_tls_1_3_and_runs_no_javascript(self):
        if shutil.which("openssl"):
            address = f"127.0.0.1:{self.stage.mongod.port}"
            pem = self.stage.secret("database_proxy.pem")
            for version, spoken in (("-tls1_3", True), ("-tls1_2", False)):
                command = ["openssl", "s_client", "-connect", address, version, "-cert", pem, "-key", pem]
                done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
                self.assertEqual("Cipher is TLS_" in done.stdout, spoken, version)
        with self.stage.direct("database_proxy.pem", **self.stage.user()) as client:
            with self.assertRaises(PyMongoError):
                client.musiccorp.catalogue.find_one({"$where": "true"})

    def other_authority(self):
        folder = pathlib.Path(self.folder.name) / "other"
        if not folder.exists():
            subprocess.run([shipped.program(), "certs", folder], check=True, capture_output=True)
        return folder
