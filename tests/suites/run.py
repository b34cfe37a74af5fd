"""Runs PyMongo's own tests directly and through the proxy, and prints what differs.

usage: run.py [--quick] [--mode MODE]... [--keep FOLDER] [TEST...]

See README.md beside this file. Exit code 1 when a test's outcome differs and
differences.toml does not give the reason.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib

import suite

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/fieldseal"
ACCEPTED = pathlib.Path(__file__).with_name("differences.toml")

# Nothing that the suite uses is sealed: neither its databases' other collections nor
# other databases' may make a difference to it.
UNRELATED = """
[collections."musiccorp.customers".fields]
ssn     = { type = "string", queries = ["equality"] }
address = {}

[collections."tenant_*.customers".fields]
ssn = { type = "string", queries = ["equality"] }
""" + "".join(
    f'[collections."{database}.nobody_uses_this".fields]\nssn = {{ type = "string", queries = ["equality"] }}\n'
    for database in suite.DATABASES
)

SCHEMAS = {"direct": None, "empty": "", "unrelated": UNRELATED}


def differences(direct, through):
    """The tests whose outcome is not the same: name, outcome direct, outcome through the proxy, its text."""
    gone = suite.Outcome("did not run", "")
    return {
        name: (direct.get(name, gone), through.get(name, gone))
        for name in sorted(direct.keys() | through.keys())
        if direct.get(name, gone).kind != through.get(name, gone).kind
    }


def accepted_reasons():
    """From differences.toml: a pattern of names, and why these tests may differ."""
    table = tomllib.loads(ACCEPTED.read_text())
    return [(re.compile(entry["tests"]), entry["reason"]) for entry in table.get("accepted", [])]


def reason_of(name, reasons):
    return next((reason for pattern, reason in reasons if pattern.fullmatch(name)), None)


def together(runs, modes, tests, folder):
    """The outcomes by mode; the modes run side by side, since these tests mostly wait."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = {mode: pool.submit(runs.run, mode, SCHEMAS[mode], tests, folder / mode) for mode in modes}
        return {mode: run.result() for mode, run in running.items()}


def confirmed(runs, mode, folder, differing):
    """Those that differ again when only they are run; others were a matter of chance or time."""
    for attempt in (1, 2):
        if not differing:
            break
        print(f"\n{mode}: {len(differing)} differ; running these alone, {attempt}", flush=True)
        tests = [suite.node(name) for name in differing]
        again = together(runs, ("direct", mode), tests, folder / f"again-{mode}-{attempt}")
        again = differences(again["direct"], again[mode])
        differing = {name: both for name, both in again.items() if name in differing}
    return differing


def tell(mode, differing, reasons):
    """Prints what differs; returns how many of them no reason is given for."""
    unexplained = 0
    for name, (direct, through) in differing.items():
        reason = reason_of(name, reasons)
        unexplained += reason is None
        print(f"\n--- {mode}: {name}: {direct.kind} directly, {through.kind} through the proxy")
        print(f"accepted: {reason}" if reason else (through.text or direct.text)[-1500:])
    return unexplained


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fieldseal", type=pathlib.Path, default=BUILT, help="the program, default: the debug build")
    parser.add_argument("--mode", action="append", choices=["empty", "unrelated"], help="default: both")
    parser.add_argument("--keep", type=pathlib.Path, help="put logs and results here")
    parser.add_argument("--members", type=int, help="of the replica sets, default: 3")
    parser.add_argument("--quick", action="store_true", help="a short selection, one mode, one member")
    parser.add_argument("tests", nargs="*", metavar="TEST", help="as pytest names them, below test/; default: all")
    arguments = parser.parse_args()
    modes = arguments.mode or (["unrelated"] if arguments.quick else ["empty", "unrelated"])
    tests = arguments.tests or (suite.QUICK if arguments.quick else suite.FILES)
    reasons = accepted_reasons()
    try:
        source = suite.fetch(ROOT)
    except subprocess.CalledProcessError:
        # As with drivers that are not installed: loud, but not for others to fail by.
        print(f"\n{'!' * 72}\nPYMONGO'S OWN TESTS DID NOT RUN: their source cannot be fetched\n{'!' * 72}")
        return 0 if arguments.quick else 1

    with tempfile.TemporaryDirectory(prefix="fieldseal-suites-") as scratch:
        folder = (arguments.keep or pathlib.Path(scratch)).resolve()
        members = arguments.members or (1 if arguments.quick else 3)
        runs = suite.Runs(source, arguments.fieldseal.resolve(), members)
        results = together(runs, ("direct", *modes), tests, folder)
        differing = {mode: confirmed(runs, mode, folder, differences(results["direct"], results[mode])) for mode in modes}

    unexplained = sum(tell(mode, differing[mode], reasons) for mode in modes)
    print()
    for mode, outcomes in results.items():
        kinds = [outcome.kind for outcome in outcomes.values()]
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("passed", "failed", "skipped"))
        print(f"{mode:<10} {counts}; {len(differing.get(mode, ()))} differ")
    same = min(len(results[mode]) for mode in modes) - unexplained
    print(f"\n{same} passed, {unexplained} failed" if same else "no test ran")
    return 0 if same and not unexplained else 1


if __name__ == "__main__":
    sys.exit(main())
