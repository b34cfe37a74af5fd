"""A mongod replica set of one member, and the proxy before it."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

import pymongo

# A server that takes longer to start does not start.
PATIENCE = 60

# Runs "$@" and kills it when standard input closes, as it does when the runner
# is killed: nothing is left running.
WATCH = """
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
{ read -r _ <&3; kill -s KILL $server; } 2>/dev/null &
obey=$!
wait $server
status=$?
kill $obey 2>/dev/null
exit $status
"""


def settle(remainder):
    """Asks again until nothing remains; what two logs say of one moment comes at two."""
    deadline = time.monotonic() + 5
    while (left := remainder()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


class Server:
    """A process that ends with this one."""

    def __init__(self, command, output, environment=None):
        self.command, self.output, self.environment = [*map(str, command)], output, environment
        self.launch()

    def launch(self):
        """Starts it, or starts it again when it has ended."""
        with open(self.output, "wb") as target:
            self.process = subprocess.Popen(
                ["sh", "-c", WATCH, "watch", *self.command],
                stdin=subprocess.PIPE,
                stdout=target,
                stderr=target,
                env=self.environment,
                start_new_session=True,
            )

    def pid(self):
        """Of the server itself, not of the shell that watches it."""
        shell = self.process.pid
        for child in pathlib.Path(f"/proc/{shell}/task/{shell}/children").read_text().split():
            command = pathlib.Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            if command[0].decode() == self.command[0]:
                return int(child)
        raise ProcessLookupError(f"{self.command[0]} has ended")

    def kill(self):
        """Ends it as a crash would."""
        os.kill(self.pid(), signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()

    def wait_for(self, path, condition):
        """Waits until `condition` holds of the text of a log; false when the process ended before."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if path.exists() and condition(path.read_text(errors="replace")):
                return True
            if self.process.poll() is not None:
                return False
            time.sleep(0.05)
        raise TimeoutError(f"{self.process.args[4]} does not start: see {path}")

    def stop(self):
        self.process.stdin.close()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Mongod(Server):
    """A replica set of one member, `rs`, or one with `others`, which it initiates.

    A member that waits to be initiated has `others=None`.

    `parameters` are mongod's, as `name=value`; `cache` is in GB; `arguments` are further ones of its command.
    """

    def __init__(self, scratch, parameters=(), cache=0.25, others=(), arguments=()):
        # Between the look for a free port and mongod's bind, another may take it.
        for _ in range(5):
            self.port = free_port()
            folder = scratch / f"mongod-{self.port}"
            folder.mkdir()
            self.log = folder / "mongod.log"
            command = mongod_command(self.port, folder, self.log, cache)
            for parameter in ("diagnosticDataCollectionEnabled=false", *parameters):
                command += ["--setParameter", parameter]
            super().__init__([*command, *arguments], folder / "output")
            if self.wait_for(self.log, lambda text: '"Waiting for connections"' in text):
                break
            print((folder / "output").read_text(errors="replace"))
        else:
            raise RuntimeError("mongod does not start")
        if others is not None:
            self.initiate([self, *others])

    def initiate(self, mongods):
        with pymongo.MongoClient(self.direct_uri()) as client:
            # The others are elected only when this one is gone.
            members = [
                {"_id": number, "host": f"127.0.0.1:{mongod.port}", "priority": 1 if number else 2}
                for number, mongod in enumerate(mongods)
            ]
            client.admin.command("replSetInitiate", {"_id": "rs", "members": members})
            deadline = time.monotonic() + PATIENCE
            while not client.admin.command("hello")["isWritablePrimary"]:
                if time.monotonic() > deadline:
                    raise TimeoutError("the replica set has no primary")
                time.sleep(0.05)

    def uri(self):
        return f"mongodb://127.0.0.1:{self.port}/?replicaSet=rs"

    def direct_uri(self):
        """Its connections say in mongod's log that they are not the driver's under test."""
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true&appName=direct"

    def log_length(self):
        return self.log.stat().st_size

    def connections(self, since):
        """The client addresses accepted since then, and those of them that said `appName=direct`."""
        accepted, direct = set(), set()
        with open(self.log, "rb") as log:
            log.seek(since)
            for line in log:
                entry = json.loads(line)
                attributes = entry.get("attr", {})
                if entry["msg"] == "Connection accepted":
                    accepted.add(attributes["remote"])
                elif entry["msg"] == "client metadata":
                    client = attributes["doc"]
                    looks_only = client.get("application", {}).get("name") == "direct"
                    # A replica set's members connect to each other, and to themselves to vote on an index.
                    own = client["driver"]["name"].startswith(("NetworkInterfaceTL-", "MongoDB Internal Client"))
                    if looks_only or own:
                        direct.add(attributes["remote"])
        return accepted, direct


class Proxy(Server):
    """`fieldseal serve`, with a key file of its own, on a port that the system picks."""

    def __init__(self, program, scratch, mongods, schema, tls=False, further="", level="debug"):
        """`further` are sections of its configuration."""
        self.options = ""
        sections = further + (self.certificates(program, scratch) if tls else "")
        self.folder = scratch / "proxy"
        self.folder.mkdir()
        (self.folder / "schema.toml").write_text(schema)
        (self.folder / "unseal").write_text("5a" * 32)
        configuration = self.folder / "fieldseal.toml"
        configuration.write_text(
            'schema = "schema.toml"\n[keyring]\nfile = "keyring.json"\nunseal = { file = "unseal" }\n'
            + "".join(
                f'[[route]]\nlisten = "127.0.0.1:0"\nupstream = "127.0.0.1:{mongod.port}"\n' for mongod in mongods
            )
            + f'[log]\nlevel = "{level}"\n'
            # Tests of drivers use it on collections with nothing sealed.
            + '[access]\njavascript = "allow"\n'
            + sections
        )
        environment = {**os.environ, "NO_COLOR": "1"}
        subprocess.run([program, "keys", "init", "-c", configuration], check=True, cwd=self.folder, env=environment)
        self.log = self.folder / "log"
        super().__init__([program, "serve", "-c", configuration], self.log, environment)
        listening = re.compile(r'listening .*?address="?([0-9.]+:[0-9]+)')
        if not self.wait_for(self.log, lambda text: len(listening.findall(text)) == len(mongods)):
            raise RuntimeError(f"the proxy does not start:\n{self.log_tail()}")
        self.addresses = listening.findall(self.log.read_text(errors="replace"))

    def certificates(self, program, scratch):
        """Makes them; returns the proxy's sections, and says in `options` what clients need."""
        folder = scratch / "certs"
        subprocess.run([program, "certs", folder], check=True, stdout=subprocess.DEVNULL)
        self.options = f"&tls=true&tlsCAFile={folder}/ca.pem&tlsCertificateKeyFile={folder}/client.pem"
        return f'[tls.listen]\ncert = "{folder}/proxy.pem"\nclient_ca = "{folder}/ca.pem"\n'

    def uri(self):
        return f"mongodb://{','.join(self.addresses)}/?replicaSet=rs{self.options}"

    def log_length(self):
        return self.log.stat().st_size

    def upstream_addresses(self, since):
        """The addresses from which the proxy connected to mongod since then."""
        text = self.log.read_bytes()[since:].decode(errors="replace")
        return set(re.findall(r'upstream_local="?([0-9.]+:[0-9]+)', text))

    def log_tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])


def proxy_or_none(program, scratch, mongods, schema, tls=False):
    """The proxy, or an empty context when no program is named."""
    return contextlib.nullcontext() if program is None else Proxy(program, scratch, mongods, schema, tls)


def mongod_command(port, folder, log, cache):
    root = pathlib.Path(__file__).resolve().parents[2]
    program = os.environ.get("FIELDSEAL_MONGOD") or shutil.which("mongod") or root / ".mongod/mongod"
    return [
        *(program, "--replSet", "rs", "--bind_ip", "127.0.0.1", "--nounixsocket", "--port", port),
        *("--dbpath", folder, "--logpath", log, "--oplogSize", 64, "--wiredTigerCacheSizeGB", cache),
    ]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
