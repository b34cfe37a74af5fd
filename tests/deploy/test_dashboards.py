"""The dashboard and the rules: every expression is one, and names metrics and labels that there are."""

import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

import yaml

import shipped

PROMETHEUS = shipped.ROOT / "deploy/prometheus"
DASHBOARD = shipped.ROOT / "deploy/grafana/fieldseal.json"
UNIT_TESTS = shipped.ROOT / "tests/deploy/alerts.test.yml"
PAGE = shipped.ROOT / "docs/metrics.md"
PROMTOOL = shutil.which("promtool")

# What Prometheus adds to every metric, and to the buckets of histograms.
LABELS = {"job", "instance", "le"}
METRIC = re.compile(r"\bfieldseal_[a-z0-9_]+")
SELECTOR = re.compile(r"\b(fieldseal_[a-z0-9_]+)\{([^}]*)\}")
GROUPING = re.compile(r"\b(?:by|on|ignoring|without) \(([^)]*)\)")


def documented():
    """The labels of each metric, as the page has them."""
    metrics = {}
    for line in PAGE.read_text().splitlines():
        if line.startswith("| `fieldseal_"):
            name, kind, labels = (cell.strip() for cell in line.split("|")[1:4])
            labels = set(re.findall("[a-z_]+", labels)) | LABELS
            endings = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            metrics |= {name.strip("`") + ending: labels for ending in endings}
    return metrics


def rules():
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts():
    return [rule for rule in rules() if "alert" in rule]


def panels():
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def shown():
    """The expressions of the dashboard, with what Grafana puts in the place of its variables."""
    variables = {"$__rate_interval": "5m", "$job": "fieldseal", "$instance": ".*"}
    for panel in panels():
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in variables.items():
                expression = expression.replace(name, value)
            yield panel["title"], expression


def expressions():
    yield from shown()
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]


def promtool(*words):
    return subprocess.run([PROMTOOL, *words], capture_output=True, text=True)


class Names(unittest.TestCase):
    def test_every_metric_that_is_named_is_one_with_these_labels(self):
        metrics = documented()
        self.assertGreater(len(metrics), 15)
        every_label = set().union(*metrics.values()) | {"generation"}
        for where, expression in expressions():
            with self.subTest(where):
                # Those that are recorded have colons in their names.
                named = METRIC.findall(re.sub(r"fieldseal:\w+:\w+", "", expression))
                self.assertLessEqual(set(named), metrics.keys())
                for name, selectors in SELECTOR.findall(expression):
                    selected = set(re.findall(r'(\w+)\s*[=!]~?"', selectors))
                    self.assertLessEqual(selected, metrics[name], name)
                for labels in GROUPING.findall(expression):
                    self.assertLessEqual(set(re.findall(r"\w+", labels)), every_label)

    def test_every_metric_is_shown(self):
        named = {name for _, expression in shown() for name in METRIC.findall(expression)}
        # Of a histogram, some of its series say it all.
        base = lambda name: re.sub("_(bucket|sum|count)$", "", name)
        self.assertEqual({base(name) for name in documented()}, {base(name) for name in named})

    def test_what_is_recorded_is_what_alerts_use(self):
        recorded = {rule["record"] for rule in rules() if "record" in rule}
        used = {name for rule in alerts() for name in re.findall(r"fieldseal:\w+:\w+", rule["expr"])}
        self.assertLessEqual(used, recorded)


class Dashboard(unittest.TestCase):
    def test_no_panel_covers_another_and_each_says_what_it_shows(self):
        whole = json.loads(DASHBOARD.read_text())
        taken = {}
        for panel in whole["panels"]:
            place = panel["gridPos"]
            self.assertLessEqual(place["x"] + place["w"], 24)
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    self.assertNotIn((x, y), taken, panel["title"])
                    taken[x, y] = panel["title"]
        numbers = [panel["id"] for panel in whole["panels"]]
        self.assertEqual(len(numbers), len(set(numbers)))
        for panel in panels():
            with self.subTest(panel["title"]):
                self.assertTrue(panel["description"])
                self.assertTrue(panel["fieldConfig"]["defaults"]["unit"])

    def test_it_is_of_the_data_source_and_the_proxies_that_are_chosen(self):
        for panel in panels():
            with self.subTest(panel["title"]):
                self.assertEqual(panel["datasource"]["uid"], "${datasource}")
                for target in panel["targets"]:
                    self.assertEqual(target["datasource"]["uid"], "${datasource}")
                    chosen = METRIC.findall(target["expr"])
                    self.assertEqual(target["expr"].count('{job="$job", instance=~"$instance"}'), len(chosen))


class Alerts(unittest.TestCase):
    def test_each_says_how_urgent_it_is_and_what_to_do(self):
        names = [rule["alert"] for rule in alerts()]
        self.assertEqual(len(names), len(set(names)))
        for rule in alerts():
            with self.subTest(rule["alert"]):
                self.assertIn(rule["labels"]["severity"], ("page", "ticket"))
                self.assertTrue(rule["annotations"]["summary"] and rule["annotations"]["description"])

    def test_each_is_raised_in_a_test(self):
        raised = set(re.findall(r'alertname="(\w+)"', UNIT_TESTS.read_text()))
        self.assertEqual(raised, {rule["alert"] for rule in alerts()})


@unittest.skipUnless(PROMTOOL, "no promtool here (package prometheus): the expressions were not parsed")
class Promtool(unittest.TestCase):
    def check(self, *words):
        done = promtool(*words)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_rules_and_the_example_are_what_prometheus_takes(self):
        self.check("check", "rules", str(PROMETHEUS / "alerts.yml"))
        self.check("check", "config", "--syntax-only", str(PROMETHEUS / "prometheus.yml"))

    def test_alerts_are_raised_when_they_should_be_and_not_else(self):
        self.check("test", "rules", str(UNIT_TESTS))

    def test_every_expression_of_the_dashboard_is_one(self):
        with tempfile.TemporaryDirectory(prefix="fieldseal-dashboard-") as folder:
            def parsed(expressions):
                listed = [{"record": f"shown:{at}", "expr": expr} for at, expr in enumerate(expressions)]
                file = pathlib.Path(folder) / "shown.yml"
                file.write_text(yaml.safe_dump({"groups": [{"name": "shown", "rules": listed}]}))
                return promtool("check", "rules", str(file))

            done = parsed(expression for _, expression in shown())
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            # It does notice.
            self.assertNotEqual(parsed(["sum by (rate(fieldseal_connections[5m])"]).returncode, 0)


if __name__ == "__main__":
    unittest.main()
