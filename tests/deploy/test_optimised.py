"""What an optimised build learns from: the run that `packaging/optimised.sh` makes between its two builds."""

import subprocess
import sys
import unittest

import shipped


class Training(unittest.TestCase):
    def test_the_proxy_serves_what_it_is_trained_with_and_ends_by_itself(self):
        command = [sys.executable, shipped.ROOT / "packaging/train.py", shipped.program(), "0.5"]
        done = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
