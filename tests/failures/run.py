"""Breaks a replica set, and the proxy in front of it, while drivers write; nothing acknowledged may be lost.

usage: run.py [--quick] [--scenario WORDS]... [DRIVER...]

See README.md beside this file. Exit code 1 when something was lost, wrong, or did not recover.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import sys
import tempfile
import time

import pymongo

import cluster
import scenarios
import writers

BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", cluster.ROOT / "target")) / "debug/fieldseal"

# In the quick run, Node and Go see these alone.
FOR_ALL = {"primary killed", "primary steps down"}
# How often each worker does everything before something breaks, and once it is mended.
TIMES = 10


def run(scenario, number, drivers, group, scratch, program):
    """One scenario; returns rows of the table and what is wrong."""
    folder = scratch / f"scenario-{number}"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        case = scenario(group, folder, program, stack)
        if isinstance(case, scenarios.FullDisk) and not case.disk.mounted:
            return [], [], f"{case.name}: no right to mount a small disk"
        through = case.proxy.uri()
        at_work = []
        for driver in drivers:
            name = f"failures_{number}_{driver.name}"
            at_work.append(writers.Writer(driver, "through", through, through, name, case.reading, folder))
            if not case.only_through:
                straight = (group.uri(), group.uri(), f"straight_{number}_{driver.name}", case.reading, folder)
                at_work.append(writers.Writer(driver, "straight", *straight))
        wrong = [f"{label} does not begin" for label in writers.wait_for_all(at_work, 0, TIMES)]
        broken = time.time()
        case.break_it()
        case.mend()
        mended = time.time()
        wrong += [f"{label} does not recover" for label in writers.wait_for_all(at_work, mended, TIMES)]
        for writer in at_work:
            wrong += [f"{writer.label()} {what}" for what in writer.finish()]
        group.wait_until_whole()
        rows = []
        for writer in at_work:
            wrong += [f"{writer.label()}: {what}" for what in writer.verify(case.reading != "primary")]
            rows.append((writer.driver.name, writer.way, writer.longest_pause(broken), len(writer.lines())))
        with pymongo.MongoClient(group.uri()) as client:
            for writer in at_work:
                if writer.way == "through" and writers.plain_text_stored(client, writer.database):
                    wrong.append(f"{writer.label()}: plaintext is stored")
                client.drop_database(writer.database)
        wrong += case.look()
        if not case.proxy.running():
            wrong.append("the proxy has ended")
        if "panicked" in case.proxy.log.read_text(errors="replace"):
            wrong.append("the proxy panicked")
        if wrong:
            print(case.proxy.log_tail())
    return rows, wrong, None


def table(name, rows):
    """The longest pause of each driver, through the proxy and straight."""
    told = {}
    for driver, way, (pause, failed), lines in rows:
        told.setdefault(driver, {})[way] = f"{pause:5.1f} s, {failed:3} failed of {lines}"
    for driver, ways in told.items():
        print(f"{name:<38} {driver:<8} {ways['through']:<28} {ways.get('straight', '-')}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="Node and Go for two scenarios only")
    parser.add_argument("--scenario", action="append", help="those whose name holds these words")
    parser.add_argument("--fieldseal", type=pathlib.Path, default=BUILT, help="the program, default: the debug build")
    parser.add_argument("--keep", action="store_true", help="leave the files behind")
    parser.add_argument("drivers", nargs="*", metavar="DRIVER", help="default: all")
    arguments = parser.parse_args()
    wanted = arguments.scenario or [""]
    chosen = [scenario for scenario in scenarios.ALL if any(words in scenario.name for words in wanted)]
    if not chosen:
        parser.error(f"no such scenario; there are: {', '.join(scenario.name for scenario in scenarios.ALL)}")

    scratch = pathlib.Path(tempfile.mkdtemp(prefix="fieldseal-failures-"))
    wrong, left_out = [], []
    try:
        drivers = writers.all_drivers(scratch, os.environ.get("CARGO", "cargo"))
        drivers = [driver for driver in drivers if not arguments.drivers or driver.name in arguments.drivers]
        left_out += [f"{driver.name}: {driver.missing}" for driver in drivers if driver.missing]
        drivers = [driver for driver in drivers if not driver.missing]
        for driver in drivers:
            driver.build()
        print(f"{'':<38} {'':<8} {'through the proxy':<28} straight to MongoDB: longest pause between writes")
        with cluster.Set(scratch) as group:
            for number, scenario in enumerate(chosen):
                few = arguments.quick and scenario.name not in FOR_ALL
                present = [driver for driver in drivers if not few or driver.name in ("python", "rust")]
                rows, found, missing = run(scenario, number, present, group, scratch, arguments.fieldseal.resolve())
                table(scenario.name, rows)
                left_out += [missing] if missing else []
                wrong += [f"{scenario.name}: {what}" for what in found]
    finally:
        if arguments.keep:
            print(f"files are in {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    for what in left_out:
        print(f"LEFT OUT: {what}")
    for what in wrong:
        print(f"WRONG: {what}")
    print(f"{len(chosen)} scenarios, {len(wrong)} things wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
