"""What docker-compose.yml and the Dockerfile say."""

import os
import pathlib
import shutil
import stat
import subprocess
import tempfile
import unittest

import shipped


class Containers(unittest.TestCase):
    def setUp(self):
        self.compose = shipped.compose()
        self.services = self.compose["services"]

    def test_every_container_is_without_rights_and_writes_nothing_to_its_root(self):
        for name, service in self.services.items():
            with self.subTest(name):
                self.assertIs(service["read_only"], True)
                self.assertEqual(service["cap_drop"], ["ALL"])
                self.assertNotIn("cap_add", service)
                self.assertEqual(service["security_opt"], ["no-new-privileges:true"])
                self.assertNotIn(service["user"].split(":")[0], ("0", "root"))
                self.assertEqual(service["ulimits"]["core"], 0)
                self.assertNotIn("privileged", service)
                self.assertFalse({"pid", "ipc", "devices"} & service.keys())

    def test_only_the_proxy_reaches_mongodb_and_only_loopback_reaches_the_proxy(self):
        self.assertIs(self.compose["networks"]["database"]["internal"], True)
        inside = {name for name, service in self.services.items() if "database" in service.get("networks", [])}
        self.assertEqual(inside, {"fieldseal", "mongodb"})
        self.assertEqual(self.services["mongodb"]["networks"], ["database"])
        self.assertEqual(self.services["users"]["network_mode"], "service:mongodb")
        self.assertEqual(self.services["keys"]["network_mode"], "none")
        published = {name: service["ports"] for name, service in self.services.items() if "ports" in service}
        self.assertEqual(published, {"fieldseal": ["127.0.0.1:27117:27117"]})

    def test_secrets_are_files_that_only_those_have_who_need_them(self):
        has = {name: set(service.get("secrets", [])) for name, service in self.services.items()}
        self.assertEqual(set().union(*has.values()), set(self.compose["secrets"]))
        of = {secret: {name for name in has if secret in has[name]} for secret in self.compose["secrets"]}
        self.assertEqual(of["fieldseal_unseal"], {"fieldseal", "keys"})
        self.assertEqual(of["database_proxy.pem"], {"fieldseal"})
        self.assertEqual(of["services_proxy.pem"], {"fieldseal"})
        self.assertEqual(of["mongodb_keyfile"], {"mongodb"})
        self.assertEqual(of["mongodb_admin_password"], {"users"})
        text = (shipped.ROOT / "docker-compose.yml").read_text()
        self.assertNotIn("PASSWORD:", text.replace(":PASSWORD@", ""))
        for name, service in self.services.items():
            environment = set(service.get("environment", {}))
            self.assertLessEqual(environment, {"HOME", "MEMBER"}, name)

    def test_every_file_that_is_mounted_is_shipped_or_made(self):
        for name, service in self.services.items():
            for volume in service.get("volumes", []):
                source, _, *options = volume.split(":")
                if source.startswith("."):
                    self.assertTrue((shipped.ROOT / source).exists(), f"{name}: {source}")
                    self.assertEqual(options, ["ro"], f"{name}: {source}")
                else:
                    self.assertIn(source, self.compose["volumes"])
        self.assertIn("keyring:/var/lib/fieldseal:ro", self.services["fieldseal"]["volumes"])


class Secrets(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="fieldseal-deploy-")
        cls.place = shipped.Place(pathlib.Path(cls.folder.name))
        cls.secrets = pathlib.Path(cls.folder.name) / "deploy/secrets"

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_the_script_makes_what_the_compose_file_names_and_a_services_certificate(self):
        made = {path.name for path in self.secrets.iterdir()}
        extra = {"services_client.pem", "services_ca-key.pem"}
        self.assertEqual(made - extra, set(self.place.compose["secrets"]))
        self.assertEqual(made & extra, extra)

    def test_nobody_else_enters_their_folder_and_as_root_each_belongs_to_its_reader(self):
        self.assertEqual(stat.S_IMODE(self.secrets.stat().st_mode), 0o700)
        for service, user in (("fieldseal", 65532), ("mongodb", 999)):
            described = self.place.compose["services"][service]
            self.assertEqual(described["user"], f"{user}:{user}")
            for name in described["secrets"]:
                file = self.place.secret(name).stat()
                if name.endswith("_ca.pem") or os.geteuid():
                    self.assertEqual(stat.S_IMODE(file.st_mode), 0o444, name)
                else:
                    self.assertEqual((file.st_uid, stat.S_IMODE(file.st_mode)), (user, 0o400), name)

    def test_the_key_of_mongodbs_authority_is_nowhere(self):
        held = {path.name: path.read_text().count("PRIVATE KEY-----\n") for path in self.secrets.glob("database_*")}
        self.assertEqual(held, {"database_ca.pem": 0, "database_mongod.pem": 2, "database_proxy.pem": 2})

    def test_a_second_run_changes_nothing(self):
        before = {path: path.read_bytes() for path in self.secrets.iterdir()}
        told = self.place.make_secrets()
        self.assertEqual({path: path.read_bytes() for path in self.secrets.iterdir()}, before)
        self.assertNotIn("made ", told)

    def test_what_was_removed_is_made_anew_and_the_rest_left_alone(self):
        with tempfile.TemporaryDirectory(prefix="fieldseal-deploy-") as folder:
            place = shipped.Place(pathlib.Path(folder))
            kept = place.secret("database_ca.pem").read_bytes()
            for path in place.secret("services_ca.pem").parent.glob("services_*"):
                path.unlink()
            place.make_secrets()
            self.assertTrue(place.secret("services_proxy.pem").exists())
            self.assertEqual(place.secret("database_ca.pem").read_bytes(), kept)


class Image(unittest.TestCase):
    def setUp(self):
        self.lines = (shipped.ROOT / "Dockerfile").read_text().splitlines()

    def test_it_runs_as_a_numeric_user_without_rights_and_names_no_shell(self):
        last = max(number for number, line in enumerate(self.lines) if line.startswith("FROM"))
        final = self.lines[last:]
        self.assertIn("distroless", final[0])
        self.assertIn("USER 65532:65532", final)
        self.assertFalse([line for line in final if line.startswith("RUN")])
        for word in ("ENTRYPOINT", "CMD"):
            (line,) = [line for line in final if line.startswith(word)]
            self.assertTrue(line.removeprefix(word).strip().startswith("["), line)

    def test_what_it_copies_is_enough_to_build(self):
        if not shutil.which("cargo"):
            self.skipTest("no cargo here")
        copies = [line.split()[1:-1] for line in self.lines if line.startswith("COPY") and "--from" not in line]
        ignored = (shipped.ROOT / ".dockerignore").read_text().splitlines()
        with tempfile.TemporaryDirectory(prefix="fieldseal-image-") as folder:
            for source in (source for sources in copies for source in sources):
                self.assertIn(f"!{source}", ignored)
                path = shipped.ROOT / source
                copy = shutil.copytree if path.is_dir() else shutil.copy
                copy(path, pathlib.Path(folder) / source)
            command = ["cargo", "metadata", "--locked", "--offline", "--no-deps", "--format-version=1"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            # What the sources take in at compile time is there too.
            for file in (pathlib.Path(folder) / "src").rglob("*.rs"):
                for rest in file.read_text().split("include_str!(\"")[1:]:
                    self.assertTrue((file.parent / rest.split('"')[0]).exists(), f"{file}: {rest[:60]}")
