"""The instructions of each part of the data path, as callgrind counts them.

    make bench-counts                        a table
    make bench-counts ARGS=--json            the same for a program
    make bench-counts ARGS='insert-sealed-1' some of the parts

A part runs so many times and twice as many; the difference is its own, without what was
made ready before. The numbers are those of one binary: another compiler gives others, so
compare what was built alike.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def built() -> str:
    command = ["cargo", "bench", "--locked", "--bench", "counts", "--no-run", "--message-format=json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in lines.splitlines():
        message = json.loads(line)
        if message.get("target", {}).get("name") == "counts" and message.get("executable"):
            return message["executable"]
    sys.exit("cargo did not say where the bench is")


def instructions(binary: str, part: str, times: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", binary, part, str(times)]
        run = subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return int(re.search(r"Collected : (\d+)", run.stderr).group(1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help="those that are meant, else all")
    parser.add_argument("--binary", help="the bench, if it is built already")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    binary = options.binary or built()
    known = subprocess.run([binary], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    counts = {}
    for part in options.parts or known:
        times = 100 if part.endswith("-100") or part.startswith(("in-", "out-")) else 2000
        once, twice = (instructions(binary, part, times * factor) for factor in (1, 2))
        counts[part] = round((twice - once) / times)
        if not options.json:
            print(f"{part:24} {counts[part]:>12,}", flush=True)
    if options.json:
        print(json.dumps(counts, indent=1))


if __name__ == "__main__":
    main()
