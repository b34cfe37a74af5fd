"""What the manifests say, and what the proxy says of the configuration in them."""

import pathlib
import subprocess
import tempfile
import unittest

import shipped

try:
    import kubernetes_validate
except ImportError:
    kubernetes_validate = None

NAMES = ("deployment.yaml", "sidecar.yaml")
# The oldest version with sidecars, and the newest that the schemas know.
VERSIONS = ("1.29", None)


def of_kind(manifests, kind):
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def pod(manifests):
    (deployment,) = of_kind(manifests, "Deployment")
    return deployment["spec"]["template"]


def containers(template):
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


class Manifests(unittest.TestCase):
    def each(self):
        for name in NAMES:
            with self.subTest(name):
                yield shipped.manifests(name)

    def test_they_are_what_kubernetes_takes_without_a_field_that_it_does_not_know(self):
        if not kubernetes_validate:
            self.skipTest("kubernetes-validate is not installed (tests/deploy/requirements-kubernetes.txt)")
        for manifests in self.each():
            for manifest in manifests:
                for version in VERSIONS:
                    version = version or kubernetes_validate.latest_version()
                    kubernetes_validate.validate(manifest, version, strict=True)

    def test_every_container_is_without_rights(self):
        for manifests in self.each():
            template = pod(manifests)
            shared = template["spec"]["securityContext"]
            self.assertIs(shared["runAsNonRoot"], True)
            self.assertEqual(shared["seccompProfile"]["type"], "RuntimeDefault")
            self.assertIs(template["spec"]["automountServiceAccountToken"], False)
            self.assertFalse({"hostNetwork", "hostPID", "hostIPC"} & template["spec"].keys())
            for container in containers(template):
                own = container["securityContext"]
                self.assertIs(own["allowPrivilegeEscalation"], False)
                self.assertIs(own["readOnlyRootFilesystem"], True)
                self.assertEqual(own["capabilities"], {"drop": ["ALL"]})
                self.assertGreater(own.get("runAsUser", shared.get("runAsUser", 0)), 0)
                self.assertIn("memory", container["resources"]["limits"])

    def test_secrets_are_files_and_only_the_proxy_has_them(self):
        for manifests in self.each():
            self.assertEqual(of_kind(manifests, "Secret"), [])
            template = pod(manifests)
            secrets = {volume["name"]: volume["secret"] for volume in template["spec"]["volumes"] if "secret" in volume}
            self.assertIn("unseal", secrets)
            for secret in secrets.values():
                self.assertEqual(secret["defaultMode"], 0o400)
            for container in containers(template):
                mounts = container.get("volumeMounts", [])
                self.assertTrue(all(mount["readOnly"] for mount in mounts))
                # A file that is mounted alone is not changed when the secret is.
                self.assertFalse([mount for mount in mounts if "subPath" in mount])
                self.assertNotIn("envFrom", container)
                if container["name"] == "fieldseal":
                    self.assertNotIn("env", container)
                    self.assertLessEqual(set(secrets), {mount["name"] for mount in mounts})
                else:
                    self.assertFalse(mounts)

    def test_one_pod_at_least_is_there_while_nodes_are_emptied(self):
        for manifests in self.each():
            (deployment,) = of_kind(manifests, "Deployment")
            (budget,) = of_kind(manifests, "PodDisruptionBudget")
            self.assertEqual(deployment["spec"]["replicas"], 2)
            self.assertEqual(budget["spec"]["minAvailable"], 1)
            labels = pod(manifests)["metadata"]["labels"]
            for selector in (deployment["spec"]["selector"], budget["spec"]["selector"]):
                self.assertLessEqual(selector["matchLabels"].items(), labels.items())

    def test_only_the_proxy_reaches_mongodb_and_only_its_clients_the_proxy(self):
        for manifests in self.each():
            policies = {policy["metadata"]["name"]: policy["spec"] for policy in of_kind(manifests, "NetworkPolicy")}
            mongodb = policies["mongodb"]
            self.assertEqual(mongodb["podSelector"]["matchLabels"], {"app.kubernetes.io/name": "mongodb"})
            (rule,) = mongodb["ingress"]
            sources = [source["podSelector"]["matchLabels"] for source in rule["from"]]
            labels = pod(manifests)["metadata"]["labels"]
            proxy, members = sources
            self.assertLessEqual(proxy.items(), labels.items())
            self.assertEqual(members, {"app.kubernetes.io/name": "mongodb"})
            for policy in policies.values():
                self.assertIn("Ingress", policy["policyTypes"])
                for rule in policy["ingress"]:
                    self.assertTrue(rule["from"] and rule["ports"], "an empty list lets everybody in")
        (proxy,) = [
            policy["spec"]
            for policy in of_kind(shipped.manifests(NAMES[0]), "NetworkPolicy")
            if policy["metadata"]["name"] == "fieldseal"
        ]
        (rule,) = proxy["ingress"]
        self.assertEqual(rule["from"], [{"podSelector": {"matchLabels": {"fieldseal/client": "true"}}}])
        self.assertEqual(proxy["policyTypes"], ["Ingress", "Egress"])

    def test_the_deployment_is_probed_where_it_listens_and_stops_within_its_grace_period(self):
        manifests = shipped.manifests(NAMES[0])
        (container,) = containers(pod(manifests))
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container[probe]["httpGet"]
            self.assertEqual((asked["port"], asked["scheme"]), ("admin", "HTTPS"))
            self.assertEqual(asked["path"], "/readyz" if probe == "readinessProbe" else "/healthz")
        (configuration,) = of_kind(manifests, "ConfigMap")
        admin = ports.pop("admin")
        self.assertIn(f'[admin]\n    listen = "0.0.0.0:{admin}"'.replace("    ", ""), configuration["data"]["fieldseal.toml"])
        # Time to stop with the default of limits.drain_timeout_seconds, and to answer what is left then.
        waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        self.assertGreaterEqual(pod(manifests)["spec"]["terminationGracePeriodSeconds"], waits + 8 + 5)
        (service,) = of_kind(manifests, "Service")
        self.assertEqual({port["targetPort"]: port["port"] for port in service["spec"]["ports"]}, ports)
        for port in ports.values():
            self.assertIn(f'listen    = "0.0.0.0:{port}"', configuration["data"]["fieldseal.toml"])


class Configurations(unittest.TestCase):
    def test_the_proxy_takes_the_configuration_with_secrets_where_they_are_mounted(self):
        for name in NAMES:
            with self.subTest(name), tempfile.TemporaryDirectory(prefix="fieldseal-kubernetes-") as folder:
                folder = pathlib.Path(folder)
                self.check(shipped.manifests(name), folder)

    def check(self, manifests, folder):
        (configuration,) = of_kind(manifests, "ConfigMap")
        mounted = {mount["mountPath"] for mount in containers(pod(manifests))[0]["volumeMounts"]}
        run = "/var/run/fieldseal"
        for path in mounted - {"/etc/fieldseal"}:
            (folder / path.removeprefix(f"{run}/")).mkdir()
        for name, text in configuration["data"].items():
            (folder / name).write_text(text.replace(run, str(folder)))
        (folder / "unseal/unseal").write_text("5a" * 32)
        if (folder / "admin").exists():
            (folder / "admin/token").write_text("5a" * 32)
        subprocess.run([shipped.program(), "certs", folder / "certs"], check=True, capture_output=True)
        for side in ("services", "database"):
            if (folder / side).exists():
                pem = (folder / "certs/proxy.pem").read_text()
                (folder / side / "ca.crt").write_bytes((folder / "certs/ca.pem").read_bytes())
                (folder / side / "tls.crt").write_text(pem)
                (folder / side / "tls.key").write_text(pem)
        for command in (["keys", "init"], ["check", "--offline"]):
            done = subprocess.run([shipped.program(), *command], cwd=folder, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("2 fields of 1 collection sealed", done.stdout)
