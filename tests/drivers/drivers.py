"""What each driver program needs, how it is built and how it is run."""

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

JAVA_JARS = [f"/usr/share/java/{name}.jar" for name in ("mongo-java-driver",)]
GO_PATH = "/usr/share/gocode"


class BuildFailure(Exception):
    """The program did not compile."""


@dataclass
class Driver:
    """One program; `{out}` in its commands is the folder of what it compiles to, `{uri}` where it works."""

    name: str
    command: list
    # Returns what is not here, or None.
    missing: Callable
    compile: list = field(default_factory=list)
    environment: dict = field(default_factory=dict)
    # Why it cannot be given certificates by its connection string.
    without_tls: str | None = None

    def build(self, scratch: pathlib.Path) -> None:
        out = scratch / "out" / self.name
        out.mkdir(parents=True)

        def fill(words):
            return [str(word).replace("{out}", str(out)) for word in words]

        self.command = fill(self.command)
        if not self.compile:
            return
        environment = {"PATH": os.environ["PATH"], "HOME": str(scratch), **self.environment}
        done = subprocess.run(fill(self.compile), env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise BuildFailure(f"it does not compile:\n{done.stdout}{done.stderr}")


def missing_program(*programs):
    """The first program that is not on PATH."""

    def missing():
        absent = [program for program in programs if not shutil.which(program)]
        return f"no {' and no '.join(absent)}" if absent else None

    return missing


def missing_file(path, package, *programs):
    """The programs, then a file that a package brings."""

    def missing():
        return missing_program(*programs)() or (None if pathlib.Path(path).exists() else f"no {package}")

    return missing


def succeeds(command, package, *programs):
    """The programs, then a command that tells whether a package is there."""

    def missing():
        absent = missing_program(*programs)()
        if absent:
            return absent
        return None if subprocess.run(command, capture_output=True).returncode == 0 else f"no {package}"

    return missing


def pkg_config(*words):
    if not shutil.which("pkg-config"):
        return []
    return subprocess.run(["pkg-config", *words], capture_output=True, text=True).stdout.split()


def all_drivers(root: pathlib.Path) -> list:
    here = root / "tests/drivers"
    node = here / "node"
    mongosh = node / "node_modules/mongosh/bin/mongosh.js"
    go = {"GO111MODULE": "off", "GOPATH": GO_PATH, "GOCACHE": str(root / "target/go-cache"), "CGO_ENABLED": "0"}
    classes = ":".join(JAVA_JARS)
    return [
        Driver("python", [sys.executable, here / "python/people.py"], lambda: None),
        Driver(
            "node",
            ["node", node / "people.mjs"],
            succeeds(["node", node / "version.mjs"], "package mongodb (npm, and a Node that it supports)", "node"),
        ),
        Driver(
            "mongosh",
            ["node", mongosh, "{uri}", "--norc", "--file", here / "mongosh/people.js"],
            missing_file(mongosh, "package mongosh (npm)", "node"),
        ),
        Driver(
            "go",
            ["{out}/people"],
            missing_file(f"{GO_PATH}/src/go.mongodb.org/mongo-driver", "golang-mongodb-mongo-driver-dev", "go"),
            compile=["go", "build", "-o", "{out}/people", here / "go/people.go"],
            environment=go,
        ),
        Driver(
            "java",
            ["java", "-cp", f"{classes}:{{out}}", "People"],
            missing_file(JAVA_JARS[0], "libmongodb-java", "java", "javac"),
            compile=["javac", "-Xlint:-options", "-cp", classes, "-d", "{out}", here / "java/People.java"],
            without_tls="takes certificates from a Java key store only",
        ),
        Driver(
            "c",
            ["{out}/people"],
            succeeds(["pkg-config", "--exists", "libmongoc-1.0"], "libmongoc-dev", "cc", "pkg-config"),
            compile=["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-o", "{out}/people", here / "c/people.c"]
            + pkg_config("--cflags", "--libs", "libmongoc-1.0"),
        ),
        Driver(
            "php",
            ["php", here / "php/people.php"],
            succeeds(["php", "-r", "exit(extension_loaded('mongodb') ? 0 : 1);"], "php-mongodb", "php"),
        ),
    ]
