"""What is shipped works as it is shipped: the compose file, the systemd unit, the manifests.

usage: run.py [--fieldseal PROGRAM] [NAME...]

There is no container here. What the compose file would run in containers is run on this machine,
with the options, the configuration and the scripts that are in it, and paths put where they are here.
Exit code 1 when something does not hold.
"""

import argparse
import os
import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/drivers"))
BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/fieldseal"


class Result(unittest.TextTestResult):
    """Tells of what was left out in a way that is not overlooked."""

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.stream.writeln(f"\n{'!' * 72}\nDID NOT RUN: {test}\n  {reason}\n{'!' * 72}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fieldseal", type=pathlib.Path, default=BUILT, help="the program, default: the debug build")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only tests whose name holds one of these")
    arguments = parser.parse_args()
    os.environ["FIELDSEAL_PROGRAM"] = str(arguments.fieldseal.resolve())
    loader = unittest.TestLoader()
    loader.testNamePatterns = [f"*{name}*" for name in arguments.names] or None
    suite = loader.discover(str(pathlib.Path(__file__).parent), "test_*.py")
    done = unittest.TextTestRunner(verbosity=2, resultclass=Result).run(suite)
    if not done.testsRun:
        parser.error("no test has such a name")
    return 0 if done.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
