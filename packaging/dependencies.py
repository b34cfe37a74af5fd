"""What the program is built of: a bill of materials, and whether every licence in it may be used.

usage: dependencies.py sbom [--target TRIPLE] [-o FILE]    CycloneDX 1.6 as JSON
       dependencies.py licences [--target TRIPLE]          exit code 1 when one is not in deny.toml

Both are of what `cargo build --release` compiles from Cargo.lock: dependencies and those of build
scripts, not those of tests. Needs cargo and nothing but Python's own library.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[1]
TARGET = "x86_64-unknown-linux-gnu"


def metadata(target):
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout)


class Build:
    """The packages that go into the program, and which needs which."""

    def __init__(self, target):
        found = metadata(target)
        self.root = found["resolve"]["root"]
        self.needs = {
            node["id"]: sorted(
                dependency["pkg"]
                for dependency in node["deps"]
                if any(kind["kind"] in (None, "build") for kind in dependency["dep_kinds"])
            )
            for node in found["resolve"]["nodes"]
        }
        reached, waiting = set(), [self.root]
        while waiting:
            package = waiting.pop()
            if package not in reached:
                reached.add(package)
                waiting.extend(self.needs[package])
        packages = (package for package in found["packages"] if package["id"] in reached)
        self.packages = {package["id"]: package for package in sorted(packages, key=named)}

    def others(self):
        return [package for key, package in self.packages.items() if key != self.root]


def named(package):
    return package["name"], package["version"]


def url(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def expression(package):
    """The licence as SPDX has it today: older crates write a slash for OR."""
    text = package["license"] or ""
    return re.sub(r"\s*/\s*", " OR ", text)


def checksums():
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())
    return {named(package): package["checksum"] for package in locked["package"] if "checksum" in package}


def component(package, sums, kind="library"):
    made = {"type": kind, "bom-ref": url(package), "name": package["name"], "version": package["version"]}
    if package["description"]:
        made["description"] = " ".join(package["description"].split())
    if checksum := sums.get(named(package)):
        made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if expression(package):
        made["licenses"] = [{"expression": expression(package)}]
    made["purl"] = url(package)
    if package["repository"]:
        made["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return made


def bill(build):
    """The same for the same Cargo.lock: no time and no random number is in it."""
    sums = checksums()
    root = build.packages[build.root]
    content = {
        "metadata": {"component": component(root, sums, "application")},
        "components": [component(package, sums) for package in build.others()],
        "dependencies": [
            {"ref": url(package), "dependsOn": sorted(url(build.packages[need]) for need in build.needs[key])}
            for key, package in build.packages.items()
        ],
    }
    number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content, sort_keys=True))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{number}",
        "version": 1,
        **content,
    }


def allowed(text, known):
    """Whether an SPDX expression can be met by licences that are known; OR binds less than AND."""
    words = re.findall(r"\(|\)|[^\s()]+", text)
    position = 0

    def word():
        return words[position] if position < len(words) else None

    def either():
        nonlocal position
        met = both()
        while word() == "OR":
            position += 1
            met = both() or met
        return met

    def both():
        nonlocal position
        met = one()
        while word() == "AND":
            position += 1
            met = one() and met
        return met

    def one():
        nonlocal position
        if word() == "(":
            position += 1
            met = either()
            if word() != ")":
                raise ValueError(text)
            position += 1
            return met
        licence = word()
        if licence in (None, ")", "OR", "AND"):
            raise ValueError(text)
        position += 1
        if word() == "WITH":
            licence = f"{licence} WITH {words[position + 1]}"
            position += 2
        return licence in known

    met = either()
    if position != len(words):
        raise ValueError(text)
    return met


def refused(build, rules):
    """What deny.toml does not let in, in a line each."""
    known = set(rules["licenses"]["allow"])
    for package in build.others():
        who = f"{package['name']} {package['version']}"
        try:
            if not allowed(expression(package), known):
                yield f"{who}: {expression(package) or 'no licence'} is not allowed by deny.toml"
        except ValueError:
            yield f"{who}: {expression(package) or 'no licence'} is not understood"
        source = package["source"] or "a path"
        if not source.startswith("registry+"):
            yield f"{who}: comes from {source}, not from a registry"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["sbom", "licences"])
    parser.add_argument("--target", default=TARGET, help=f"the platform, default: {TARGET}")
    parser.add_argument("-o", "--output", type=pathlib.Path, help="the file, default: standard output")
    arguments = parser.parse_args()
    build = Build(arguments.target)
    if arguments.what == "sbom":
        text = json.dumps(bill(build), indent=1, ensure_ascii=False) + "\n"
        if arguments.output:
            arguments.output.write_text(text)
        else:
            sys.stdout.write(text)
        return 0
    faults = list(refused(build, tomllib.loads((ROOT / "deny.toml").read_text())))
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        print(f"{len(build.others())} crates, each under a licence that deny.toml allows")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
