"""The Debian package: what is in it, and that the program in it runs from where it is put."""

import gzip
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import shipped

PACKAGING = shipped.ROOT / "packaging"


def run(*words, **options):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)


@unittest.skipUnless(shutil.which("dpkg-deb"), "no dpkg-deb here")
class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="fieldseal-package-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        done = run(PACKAGING / "debian.sh", shipped.program(), cls.folder)
        if done.returncode:
            raise RuntimeError(done.stderr)
        cls.package = pathlib.Path(done.stdout.strip())
        cls.tree = cls.folder / "tree"
        subprocess.run(["dpkg-deb", "-x", cls.package, cls.tree], check=True)

    def test_it_belongs_to_root_and_nobody_can_write_or_read_secrets_in_it(self):
        for line in run("dpkg-deb", "-c", self.package).stdout.splitlines():
            mode, owner = line.split()[:2]
            self.assertEqual(owner, "root/root", line)
            self.assertNotIn("w", mode[4:], line)
            if line.endswith("/secrets/"):
                self.assertEqual(mode, "drwx------")

    def test_the_program_in_it_runs_and_checks_the_configuration_in_it(self):
        program = self.tree / "usr/bin/fieldseal"
        self.assertIn("fieldseal", run(program, "--version").stdout)
        # All of the configuration is understood: what is missing are the keys.
        done = run(program, "check", "-c", self.tree / "etc/fieldseal/fieldseal.toml")
        self.assertEqual(done.returncode, 1)
        self.assertIn("fieldseal_unseal", done.stderr)

    def test_the_unit_in_it_runs_the_program_in_it(self):
        unit = (self.tree / "lib/systemd/system/fieldseal.service").read_text()
        started = [line for line in unit.splitlines() if line.startswith("ExecStart")]
        self.assertTrue(started)
        for line in started:
            self.assertTrue((self.tree / line.split("=", 1)[1].split()[0].lstrip("/")).exists(), line)
        keys = self.tree / "usr/sbin/fieldseal-keys"
        self.assertTrue(os.access(keys, os.X_OK))
        for text in (unit, keys.read_text()):
            self.assertNotIn("/usr/local", text)

    def test_what_operators_edit_is_kept_by_an_upgrade(self):
        names = run("dpkg-deb", "-I", self.package, "conffiles").stdout.split()
        self.assertIn("/etc/fieldseal/fieldseal.toml", names)
        for name in names:
            self.assertTrue((self.tree / name.lstrip("/")).is_file(), name)

    def test_its_scripts_run_where_there_is_no_systemd_and_remove_no_keys(self):
        for script, words in (("postinst", ["configure"]), ("prerm", ["remove"]), ("postrm", ["purge"])):
            text = (PACKAGING / script).read_text()
            self.assertNotIn("rm -", text)
            if not pathlib.Path("/run/systemd/system").exists():
                done = run("sh", PACKAGING / script, *words)
                self.assertEqual((done.returncode, done.stderr), (0, ""), script)

    def test_the_bill_of_materials_in_it_names_every_crate_of_the_lock_file_that_is_built(self):
        packed = self.tree / "usr/share/doc/fieldseal/sbom.cdx.json.gz"
        bill = json.loads(gzip.decompress(packed.read_bytes()))
        self.assertEqual((bill["bomFormat"], bill["specVersion"]), ("CycloneDX", "1.6"))
        names = {component["name"] for component in bill["components"]}
        self.assertLessEqual({"tokio", "rustls", "aes-gcm", "bson"}, names)
        # Those of tests are not in the program.
        self.assertFalse({"proptest", "criterion"} & names)
        known = {component["bom-ref"] for component in bill["components"]}
        known.add(bill["metadata"]["component"]["bom-ref"])
        for dependency in bill["dependencies"]:
            self.assertLessEqual({dependency["ref"], *dependency["dependsOn"]}, known)
        for component in bill["components"]:
            self.assertTrue(component["licenses"] and component["hashes"], component["name"])
        again = run("python3", PACKAGING / "dependencies.py", "sbom").stdout
        self.assertEqual(json.loads(again), bill)

    def test_the_bill_of_materials_is_one_by_the_schema_of_cyclonedx(self):
        try:
            from cyclonedx.schema import SchemaVersion
            from cyclonedx.validation.json import JsonStrictValidator
        except ImportError:
            raise unittest.SkipTest("no cyclonedx-python-lib here") from None
        check = JsonStrictValidator(SchemaVersion.V1_6).validate_str
        bill = json.loads(run("python3", PACKAGING / "dependencies.py", "sbom").stdout)
        # In parts: what the validator does to a list takes the square of its length.
        for name in ("components", "dependencies"):
            whole = bill[name]
            self.assertEqual(len({json.dumps(entry) for entry in whole}), len(whole))
            for start in range(0, len(whole), 40):
                part = {**bill, "components": [], "dependencies": [], name: whole[start : start + 40]}
                self.assertIsNone(check(json.dumps(part)))
        self.assertIsNotNone(check(json.dumps({**bill, "components": [], "version": "one"})))


class Licences(unittest.TestCase):
    def test_an_expression_is_met_as_spdx_says(self):
        import importlib.util

        found = importlib.util.spec_from_file_location("dependencies", PACKAGING / "dependencies.py")
        dependencies = importlib.util.module_from_spec(found)
        found.loader.exec_module(dependencies)
        known = {"MIT", "ISC", "Apache-2.0 WITH LLVM-exception"}
        for text, met in {
            "MIT": True,
            "GPL-3.0": False,
            "GPL-3.0 OR MIT": True,
            "GPL-3.0 AND MIT": False,
            "MIT OR GPL-3.0 AND GPL-2.0": True,
            "(MIT OR GPL-3.0) AND GPL-2.0": False,
            "(MIT OR GPL-3.0) AND ISC": True,
            "Apache-2.0 WITH LLVM-exception": True,
            "Apache-2.0": False,
        }.items():
            self.assertEqual(dependencies.allowed(text, known), met, text)
        for text in ("", "MIT OR", "(MIT", "MIT MIT"):
            self.assertRaises(ValueError, dependencies.allowed, text, known)


if __name__ == "__main__":
    unittest.main()
