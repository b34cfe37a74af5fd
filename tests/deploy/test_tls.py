"""Every row of the table of TLS with a real driver: version by certificate of the client by MongoDB's
certificate, before the mongod of docker-compose.yml, which requires all of it.
"""

import base64
import hashlib
import os
import pathlib
import shutil
import signal
import ssl
import subprocess
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

import shipped
import test_running
from pymongo.errors import AutoReconnect

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
# Who shows which certificate; only the last is right.
CERTIFICATES = ("none", "wrong authority", "expired", "right")
UPSTREAMS = ("wrong name", "wrong pin", "right")

AUTHORITY = """
[ca]
default_ca = this
[this]
database = {folder}/index
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
[any]
commonName = supplied
"""


def openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def expired(stage, folder):
    """A certificate of the services' authority that ended years ago."""
    folder.mkdir()
    (folder / "index").touch()
    (folder / "configuration").write_text(AUTHORITY.format(folder=folder))
    key, request, made = (folder / name for name in ("key.pem", "request.pem", "made.pem"))
    curve = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    openssl("req", "-new", "-newkey", *curve, "-nodes", "-subj", "/CN=service", "-keyout", key, "-out", request)
    signer = ("-cert", stage.secret("services_ca.pem"), "-keyfile", stage.secret("services_ca-key.pem"))
    times = ("-startdate", "20190101000000Z", "-enddate", "20200101000000Z")
    files = ("-in", request, "-out", made, "-notext", "-batch")
    openssl("ca", "-config", folder / "configuration", *signer, *times, *files)
    both = folder / "both.pem"
    both.write_text(made.read_text() + key.read_text())
    return str(both)


def pin(pem):
    """SHA-256 of the public key in a certificate, as README.md says to make it."""
    public = subprocess.run(["openssl", "x509", "-in", pem, "-pubkey", "-noout"], check=True, capture_output=True)
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-outform", "der"], input=public.stdout, check=True, capture_output=True
    )
    return base64.b64encode(hashlib.sha256(der.stdout).digest()).decode()


@unittest.skipUnless(shutil.which("openssl"), "no openssl here, which makes the expired certificate")
class Table(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="fieldseal-tls-")
        cls.addClassCleanup(cls.folder.cleanup)
        folder = pathlib.Path(cls.folder.name)
        cls.stage = test_running.Stage(folder)
        cls.addClassCleanup(cls.stage.stop)
        cls.other = folder / "other"
        subprocess.run([shipped.program(), "certs", cls.other], check=True, capture_output=True)
        cls.certificates = {
            "none": None,
            "wrong authority": str(cls.other / "client.pem"),
            "expired": expired(cls.stage, folder / "expired"),
            "right": "services_client.pem",
        }

    def proxy(self, **more):
        more = {f"FIELDSEAL__TLS__{name.upper()}": value for name, value in more.items()}
        proxy = test_running.Proxy(self.stage.place, self.stage.mongod, more=more)
        self.addCleanup(proxy.stop)
        return proxy

    def client(self, proxy, version, certificate):
        short = {"serverSelectionTimeoutMS": test_running.TRY}
        client = self.stage.through(certificate, proxy=proxy, connect=False, **short, **self.stage.user())
        # No option of the driver's says it, but its context does.
        context = client.options.pool_options._ssl_context
        context.minimum_version = context.maximum_version = VERSIONS[version]
        return client

    def served(self, proxy, version, certificate):
        with self.client(proxy, version, certificate) as client:
            try:
                # By a sealed field, which is refused or wrong without the proxy.
                client.musiccorp.customers.find_one({"email": "nobody@example.com"})
            except AutoReconnect:
                return False
            return True

    def test_a_driver_is_served_only_where_version_and_both_certificates_are_right(self):
        right = pin(self.stage.secret("database_mongod.pem"))
        wrong = pin(self.other / "mongod.pem")
        upstreams = {
            "wrong name": {"upstream__server_name": "elsewhere.example"},
            "wrong pin": {"upstream__pin_sha256": f'["{wrong}"]'},
            "right": {"upstream__pin_sha256": f'["{right}"]'},
        }
        rows = [
            (upstream, minimum, version, certificate)
            for upstream in UPSTREAMS
            for minimum in VERSIONS
            for version in VERSIONS
            for certificate in CERTIFICATES
        ]
        proxies = {
            (upstream, minimum): self.proxy(listen__min_version=minimum, **upstreams[upstream])
            for upstream in UPSTREAMS
            for minimum in VERSIONS
        }

        def tried(row):
            upstream, minimum, version, certificate = row
            return self.served(proxies[upstream, minimum], version, self.certificates[certificate])

        # Who is turned away tries for a while: all at once.
        with ThreadPoolExecutor(8) as pool:
            outcomes = dict(zip(rows, pool.map(tried, rows), strict=True))
        self.assertEqual(len(outcomes), 48)
        expected = {
            ("right", "1.3", "1.3", "right"),
            ("right", "1.2", "1.3", "right"),
            ("right", "1.2", "1.2", "right"),
        }
        self.assertEqual({row for row, served in outcomes.items() if served}, expected)

    def test_a_certificate_is_revoked_by_taking_its_authority_from_the_file(self):
        authorities = pathlib.Path(self.folder.name) / "authorities.pem"
        own = pathlib.Path(self.stage.secret("services_ca.pem")).read_text()
        authorities.write_text(own + (self.other / "ca.pem").read_text())
        proxy = self.proxy(listen__client_ca=str(authorities))
        goes = str(self.other / "client.pem")
        with self.client(proxy, "1.3", goes) as before:
            find = before.musiccorp.customers.find_one
            find({"_id": 0})
            authorities.write_text(own)
            os.kill(self.process(proxy), signal.SIGHUP)
            self.assertTrue(proxy.wait_for(proxy.log, lambda text: "taken up anew" in text))
            self.assertFalse(self.served(proxy, "1.3", goes))
            self.assertTrue(self.served(proxy, "1.3", self.certificates["right"]))
            # What is open goes on, as documented.
            find({"_id": 0})

    def process(self, proxy):
        watch = proxy.process.pid
        children = pathlib.Path(f"/proc/{watch}/task/{watch}/children").read_text().split()
        program = os.path.realpath(shipped.program())
        (found,) = [child for child in children if os.path.realpath(f"/proc/{child}/exe") == program]
        return int(found)
