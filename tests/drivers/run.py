"""Runs the driver programs straight to a mongod and through the proxy.

usage: run.py [--direct-only | --tls] [DRIVER...]

See README.md beside this file. Exit code 1 when a driver failed.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

import drivers
import servers

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/fieldseal"

SCHEMA = """
[collections."drivers_*.people".fields]
ssn            = { type = "string", queries = ["equality"] }
"payment.card" = { type = "string", queries = ["equality"] }
tags           = { type = "string", queries = ["equality"] }
address        = {}
"""

# A program that takes longer hangs.
PATIENCE = 180


class Failure(Exception):
    """One driver's run went wrong."""


def attempt(driver, uri, direct_uri, sealed, scratch):
    """Runs one program; returns the version that it printed."""
    environment = {
        **os.environ,
        **driver.environment,
        "HOME": str(scratch),
        "FIELDSEAL_URI": uri,
        "DIRECT_URI": direct_uri,
        "DATABASE": f"drivers_{driver.name}",
        "SEALED": "1" if sealed else "0",
    }
    try:
        done = subprocess.run(
            [word.replace("{uri}", uri) for word in driver.command],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"") + (error.stderr or b"")
        raise Failure(f"no end after {PATIENCE} s\n{output.decode(errors='replace')}") from error
    output = done.stdout + done.stderr
    if done.returncode != 0:
        raise Failure(f"exit code {done.returncode}\n{output.strip()}")
    versions = [line for line in output.splitlines() if line.startswith("version: ")]
    return versions[-1].removeprefix("version: ") if versions else "?"


def prove_no_way_round(mongod, proxy, since):
    """Every connection that mongod accepted since then is the proxy's, or says that it looks only."""
    since_mongod, since_proxy = since

    def strangers():
        accepted, direct = mongod.connections(since_mongod)
        return accepted - direct - proxy.upstream_addresses(since_proxy)

    left = servers.settle(strangers)
    if left:
        raise Failure(f"connections past the proxy: {sorted(left)}")
    accepted, _ = mongod.connections(since_mongod)
    if not accepted & proxy.upstream_addresses(since_proxy):
        raise Failure("no connection came from the proxy: this proves nothing")


def run_driver(driver, mongod, proxy, scratch):
    """A row of the table: version, result of the direct run, result through the proxy, what went wrong."""
    try:
        driver.build(scratch)
        version = attempt(driver, mongod.uri(), mongod.direct_uri(), False, scratch)
    except (Failure, drivers.BuildFailure) as failure:
        return driver.name, "?", "failed", "-", f"the driver cannot talk to this mongod: {failure}"
    if proxy is None:
        return driver.name, version, "passed", "-", None
    since = (mongod.log_length(), proxy.log_length())
    try:
        attempt(driver, proxy.uri(), mongod.direct_uri(), True, scratch)
        prove_no_way_round(mongod, proxy, since)
    except Failure as failure:
        return driver.name, version, "passed", "failed", f"through the proxy: {failure}"
    return driver.name, version, "passed", "passed", None


def print_block(title, lines):
    """Something that must not be overlooked."""
    bar = "!" * 72
    print(f"\n{bar}\n{title}\n" + "\n".join(f"  {line}" for line in lines) + f"\n{bar}")


def report(rows, skipped):
    """The table and the last lines; returns the exit code."""
    print(f"\n{'driver':<10} {'version':<22} {'direct':<8} through the proxy")
    for name, version, direct, through, _ in rows:
        print(f"{name:<10} {version:<22} {direct:<8} {through}")
    for name, _ in skipped:
        print(f"{name:<10} {'not here':<22} {'skipped':<8} skipped")
    failed = [row for row in rows if row[4]]
    for name, *_, reason in failed:
        print(f"\n--- {name}: {reason}")
    if skipped:
        lines = [f"{name}: {reason}" for name, reason in skipped]
        print_block("DRIVER TESTS THAT DID NOT RUN:", lines)
    print(f"\n{len(rows) - len(failed)} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--direct-only", action="store_true", help="leave the proxy out")
    parser.add_argument("--tls", action="store_true", help="with TLS and certificates between driver and proxy")
    parser.add_argument("--fieldseal", type=pathlib.Path, default=BUILT, help="the program, default: the debug build")
    parser.add_argument("drivers", nargs="*", metavar="DRIVER", help="default: all")
    arguments = parser.parse_args()
    known = {driver.name: driver for driver in drivers.all_drivers(ROOT)}
    unknown = [name for name in arguments.drivers if name not in known]
    if unknown:
        parser.error(f"no such driver: {', '.join(unknown)} (known: {', '.join(known)})")
    chosen = [known[name] for name in arguments.drivers or known]
    reasons = {driver.name: driver.missing() or (driver.without_tls if arguments.tls else None) for driver in chosen}
    skipped = [(name, reason) for name, reason in reasons.items() if reason]
    present = [driver for driver in chosen if not reasons[driver.name]]

    rows = []
    with tempfile.TemporaryDirectory(prefix="fieldseal-drivers-") as folder:
        scratch = pathlib.Path(folder)
        with servers.Mongod(scratch) as mongod, servers.proxy_or_none(
            None if arguments.direct_only else arguments.fieldseal.resolve(), scratch, [mongod], SCHEMA, arguments.tls
        ) as proxy:
            for driver in present:
                print(f"{driver.name} ...", flush=True)
                rows.append(run_driver(driver, mongod, proxy, scratch))
            if proxy and any(row[4] for row in rows):
                print("\n--- the end of the proxy's log\n" + proxy.log_tail())
    return report(rows, skipped)


if __name__ == "__main__":
    sys.exit(main())
