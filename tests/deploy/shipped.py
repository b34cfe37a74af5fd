"""The files that are shipped, and where what they name is on this machine."""

import os
import pathlib
import shutil
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Where containers find secrets.
SECRETS = "/run/secrets"


def program():
    return os.environ["FIELDSEAL_PROGRAM"]


def compose():
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def manifests(name):
    text = (ROOT / "deploy/kubernetes" / name).read_text()
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


class Place:
    """A copy of what is shipped, with secrets made by the script and a folder for each volume."""

    def __init__(self, folder):
        self.folder = folder
        self.compose = compose()
        shutil.copytree(ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("secrets"))
        shutil.copytree(ROOT / "schema", folder / "schema")
        self.make_secrets()

    def make_secrets(self):
        """Runs the script; returns what it said."""
        environment = {**os.environ, "FIELDSEAL": program()}
        script = self.folder / "deploy/make-secrets.sh"
        return subprocess.run([script], env=environment, check=True, capture_output=True, text=True).stderr

    def secret(self, name):
        return self.folder / self.compose["secrets"][name]["file"]

    def paths(self, service):
        """Each path in the containers of a service, and the one here."""
        service = self.compose["services"][service]
        found = {f"{SECRETS}/{name}": self.secret(name) for name in service.get("secrets", [])}
        for volume in service.get("volumes", []):
            source, target, *_ = volume.split(":")
            found[target] = self.folder / (source if source.startswith(".") else f"volumes/{source}")
        for memory in service.get("tmpfs", []):
            target = memory.split(":")[0]
            found[target] = self.folder / "memory" / target.strip("/")
        for target, path in found.items():
            if not target.startswith(SECRETS) and not path.exists():
                path.mkdir(parents=True)
        return found

    def here(self, service, text):
        """A text with the paths of a service's containers put where they are here."""
        paths = self.paths(service)
        for target in sorted(paths, key=len, reverse=True):
            # /tmp is where `folder` may be too.
            if target != "/tmp":
                text = text.replace(target, str(paths[target]))
        # A dollar of the shell's is written twice in a compose file.
        return text.replace("$$", "$")

    def command(self, service):
        """What a service runs, in the place of its image's own."""
        described = self.compose["services"][service]
        words = [*described.get("entrypoint", []), *described["command"]]
        return [self.here(service, word) for word in words]
