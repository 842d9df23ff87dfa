"""The Helm chart, rendered and held against Kubernetes' types; and the script that writes containerd's hosts.toml."""

import copy
import json
import os
import pathlib
import signal
import subprocess
import threading

from harness import case as cases
from harness import clients, helm, origin, sluice

ROOT = pathlib.Path(__file__).resolve().parents[2]
NODES = ROOT / "docker/chart/files/nodes.sh"
EVERYTHING = {
    "existingSecret": "logins", "tls": {"existingSecret": "certificate"}, "replicas": 3,
    "image": {"pullSecrets": [{"name": "pull"}]}, "podAnnotations": {"a": "b"}, "podLabels": {"team": "x"},
    "nodeSelector": {"disk": "fast"}, "tolerations": [{"key": "k", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}}, "priorityClassName": "high",
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}], "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "persistence": {"storageClass": "fast"}, "service": {"type": "NodePort", "nodePort": 30500, "annotations": {"c": "d"}},
    "networkPolicy": {"clients": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "runbookBase": "https://git.example/main/"},
    "dashboard": {"enabled": True}, "nodes": {"enabled": True},
    "config": {"fill": {"prefetch": "config"}, "upstreams": {"docker.io": {
        "username": "alice", "password_file": "/etc/sluice/secrets/hub"}}, "server": {"threads": 2}},
}


def of_kind(objects, kind, name=None):
    found = [each for each in objects if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} of kind {kind}"
    return found[0]


def test_objects_are_kubernetes(case):
    """Both kinds, bare and with everything, are what Kubernetes and the Prometheus operator call valid."""
    chart = helm.Helm(case)
    said = chart.run("lint", "--strict", helm.CHART).stdout
    assert "0 chart(s) failed" in said, said
    variants = [chart.render(), chart.render(EVERYTHING), chart.render({"kind": "DaemonSet"}),
                chart.render({**EVERYTHING, "kind": "DaemonSet"}), chart.render({"persistence": {"enabled": False}})]
    objects = [each for variant in variants for each in variant]
    case.say(f"{len(objects)} objects of {len({each['kind'] for each in objects})} kinds")
    # One more, to see that the check sees what it should: the only one that is wrong.
    broken = copy.deepcopy(of_kind(variants[0], "StatefulSet"))
    broken["spec"]["template"]["spec"]["containers"][0]["readOnlyRootFilesystem"] = True
    wrong = chart.check_types([*objects, broken])
    assert len(wrong) == 1 and "readOnlyRootFilesystem" in wrong[0], "\n".join(wrong)
    names = [(each["kind"], each["metadata"]["name"]) for each in variants[1]]
    assert len(names) == len(set(names)), names


def test_pods_are_restricted_and_probed(case):
    chart = helm.Helm(case)
    for values in ({}, EVERYTHING):
        workload = of_kind(chart.render(values), "StatefulSet")
        pod = workload["spec"]["template"]["spec"]
        # What the level "restricted" of pod security wants.
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 65532
        assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
        allowed = {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}
        assert all(set(volume) - {"name"} <= allowed for volume in pod["volumes"]), pod["volumes"]
        (container,) = pod["containers"]
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                                "capabilities": {"drop": ["ALL"]}}
        probes = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
        assert probes == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
        assert pod["enableServiceLinks"] is False, "a Service sluice-x would set SLUICE_X_…, which stops the start"
        assert pod["automountServiceAccountToken"] is False and container["resources"]["limits"]["memory"]
        assert pod["terminationGracePeriodSeconds"] >= 10 + 30
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        there = {volume["name"] for volume in pod["volumes"]}
        there |= {claim["metadata"]["name"] for claim in workload["spec"]["volumeClaimTemplates"]}
        assert mounted <= there, mounted - there


def test_selectors_select(case):
    """Services, the budget, the policy and the monitor mean the cache's pods, and not those that write on nodes."""
    objects = helm.Helm(case).render(EVERYTHING)
    workload = of_kind(objects, "StatefulSet")
    labels = workload["spec"]["template"]["metadata"]["labels"]
    others = of_kind(objects, "DaemonSet")["spec"]["template"]["metadata"]["labels"]
    services = [each for each in objects if each["kind"] == "Service"]
    selectors = [workload["spec"]["selector"]["matchLabels"], *(each["spec"]["selector"] for each in services)]
    selectors.append(of_kind(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"])
    selectors.append(of_kind(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"])
    for selector in selectors:
        assert selector.items() <= labels.items() and not selector.items() <= others.items(), selector
    monitor = of_kind(objects, "ServiceMonitor")["spec"]
    monitored = [each for each in services if monitor["selector"]["matchLabels"].items() <= each["metadata"]["labels"].items()]
    assert len(monitored) == 1 and monitor["endpoints"][0]["port"] in {port["name"] for port in monitored[0]["spec"]["ports"]}
    assert workload["spec"]["serviceName"] in {each["metadata"]["name"] for each in services}
    ports = {port["name"] for port in workload["spec"]["template"]["spec"]["containers"][0]["ports"]}
    policy = of_kind(objects, "NetworkPolicy")["spec"]["ingress"]
    assert {port["port"] for rule in policy for port in rule["ports"]} == ports == {"registry", "admin"}


def test_configuration_is_the_programs(case):
    """What stands in the ConfigMap is what sluice reads, in the environment of the pod; a change makes new pods."""
    chart = helm.Helm(case)
    checksums = set()
    for values in ({}, EVERYTHING, {**EVERYTHING, "drain": {"delay": 3, "timeout": 4}}):
        objects = chart.render(values)
        workload = of_kind(objects, "StatefulSet")
        text = of_kind(objects, "ConfigMap", workload["metadata"]["name"])["data"]["sluice.yml"]
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        variables = {each["name"]: each["value"] for each in container["env"]}
        variables["SLUICE_CONFIG"] = str(case.file("sluice.yml", text.replace("/etc/sluice/", str(case.tmp) + "/")))
        for name in ("secrets/hub", "tls/tls.crt", "tls/tls.key"):
            case.folder(name.split("/")[0])
            case.file(name, "secret\n")
        if "cert_file" in text:
            authority = origin.Authority(case, "chart")
            for source, target in zip(authority.sign(), ("tls/tls.crt", "tls/tls.key")):
                case.file(target, pathlib.Path(source).read_text())
        said = case.run(sluice.binary(), "check-config", environment=variables).stdout
        assert 'listen: ":5000"' in said and 'listen: ":5001"' in said, said
        assert f"drain_delay: {values.get('drain', {}).get('delay', 10)}s" in said, said
        checksums.add(workload["spec"]["template"]["metadata"]["annotations"]["checksum/config"])
    assert len(checksums) == 3, checksums


def test_rules_and_dashboard_are_those_of_docker(case):
    objects = helm.Helm(case).render(EVERYTHING)
    groups = of_kind(objects, "PrometheusRule")["spec"]["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    shipped = (ROOT / "docker/prometheus/rules/sluice.alerts.yml").read_text()
    assert len(alerts) == shipped.count("- alert:") > 10
    assert any("{{ $labels.instance }}" in rule["annotations"]["summary"] for rule in alerts), "helm has taken the braces"
    assert all(rule["annotations"]["runbook_url"].startswith("https://git.example/main/docs/runbooks/") for rule in alerts)
    rules = case.file("rules.yml", json.dumps({"groups": groups}))
    case.run("promtool", "check", "rules", rules)
    board = of_kind(objects, "ConfigMap", "cache-sluice-dashboard")
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(board["data"]["sluice.json"]) == json.loads(
        (ROOT / "docker/grafana/dashboards/sluice.json").read_text())
    script = of_kind(objects, "ConfigMap", "cache-sluice-nodes")["data"]["nodes.sh"]
    assert script.strip() == NODES.read_text().strip()


def test_wrong_values_are_refused(case):
    chart = helm.Helm(case)
    for values in ({"kind": "Deployment"}, {"drain": {"dealy": 3}}, {"config": {"server": {"listen": ":80"}}},
                   {"persistence": {"size": "many"}}, {"nodes": {"mirror": "cache:5000"}}, {"replica": 2},
                   {"nodes": {"dialTimeout": "2 seconds"}},
                   {"nodes": {"registries": []}}, {"image": {"pullPolicy": "Sometimes"}}):
        done = chart.render(values, check=False)
        assert done.returncode != 0 and "schema" in done.stdout, f"{values}: {done.stdout[-500:]}"
    assert not any(each["kind"] == "PodDisruptionBudget" for each in chart.render()), "it would keep a node from draining"


# --- what writes hosts.toml ---

class Nodes:
    """nodes.sh on a folder of the test, by busybox's shell, as in the chart's pods."""

    def __init__(self, case, mirror="http://127.0.0.1:5000", registries="docker.io ghcr.io", **settings):
        self.case, self.root = case, case.folder("certs.d")
        self.environment = {"PATH": "/usr/bin:/bin", "MIRROR": mirror, "REGISTRIES": registries, "ROOT": str(self.root),
                            **settings}

    def run(self, command, check=True, **settings):
        return self.case.run("busybox", "sh", NODES, command, check=check, environment={**self.environment, **settings})

    def file(self, registry):
        return self.root / registry / "hosts.toml"

    def put(self, registry, text):
        self.file(registry).parent.mkdir(parents=True, exist_ok=True)
        self.file(registry).write_text(text)

    def tree(self):
        return {str(path.relative_to(self.root)): os.readlink(path) if path.is_symlink() else path.read_text()
                for path in self.root.rglob("*") if path.is_symlink() or path.is_file()}


def test_nodes_files_come_and_go(case):
    nodes = Nodes(case)
    own = 'server = "https://own.example"\n'
    nodes.put("ghcr.io", own)
    nodes.put("own.example:5000", own)
    (nodes.root / "linked.example").mkdir()
    nodes.file("linked.example").symlink_to("../ghcr.io/hosts.toml")
    before = nodes.tree()

    assert nodes.run("status", check=False).returncode == 1
    nodes.run("apply")
    assert 'server = "https://registry-1.docker.io"' in nodes.file("docker.io").read_text()
    assert '[host."http://127.0.0.1:5000"]\n' in nodes.file("ghcr.io").read_text()
    assert 'dial_timeout = "2s"\n' in nodes.file("ghcr.io").read_text()
    assert nodes.file("own.example:5000").read_text() == own, "a registry that is not listed was touched"
    assert "ghcr.io: uses http://127.0.0.1:5000" in nodes.run("status").stdout
    assert nodes.file("docker.io").stat().st_mode & 0o777 == 0o644
    stamp = nodes.file("docker.io").stat().st_mtime_ns
    assert nodes.run("apply").stdout == "" and nodes.file("docker.io").stat().st_mtime_ns == stamp, "written in vain"

    # Another mirror, a registry at an address of its own, one through a link, and one that leaves the list.
    nodes.run("apply", MIRROR="https://cache:5000", CA="/etc/ca.pem", DIAL_TIMEOUT="none",
              REGISTRIES="docker.io linked.example new.example=http://10.0.0.1:80")
    assert 'ca = "/etc/ca.pem"' in nodes.file("docker.io").read_text()
    assert "dial_timeout" not in nodes.file("docker.io").read_text()
    assert 'server = "http://10.0.0.1:80"' in nodes.file("new.example").read_text()
    assert nodes.file("ghcr.io").read_text() == own, "it has not got back what it had, or was written through the link"
    nodes.run("restore")
    assert nodes.tree() == before, nodes.tree()
    assert not nodes.file("docker.io").parent.exists() and not (nodes.root / ".sluice-backup").exists()
    nodes.run("restore")
    assert nodes.tree() == before


def test_nodes_files_of_others(case):
    """One that cannot be written keeps no other from it; what somebody changes afterwards is not thrown away."""
    nodes = Nodes(case, registries="broken.example docker.io ghcr.io")
    nodes.file("broken.example").mkdir(parents=True)
    nodes.put("ghcr.io", "first\n")
    nodes.run("apply", FOREIGN="keep", check=False)
    assert nodes.file("ghcr.io").read_text() == "first\n"
    done = nodes.run("apply", check=False)
    assert done.returncode == 1 and "broken.example" in done.stdout, done.stdout
    assert nodes.run("status", REGISTRIES="docker.io ghcr.io").returncode == 0

    nodes.put("ghcr.io", "second\n")
    nodes.run("restore", check=False)
    assert nodes.file("ghcr.io").read_text() == "second\n", "somebody's change was overwritten"
    assert (nodes.root / ".sluice-backup/ghcr.io").read_text() == "first\n"
    nodes.run("apply", check=False)
    nodes.run("restore", check=False)
    assert nodes.file("ghcr.io").read_text() == "second\n"


def test_nodes_files_are_never_half(case):
    """Whoever reads while they are replaced sees the old one or the new one, and a killed script leaves no other."""
    nodes = Nodes(case)
    nodes.run("apply")
    texts = {nodes.file("docker.io").read_text()}
    nodes.run("apply", MIRROR="http://127.0.0.1:6000")
    texts.add(nodes.file("docker.io").read_text())
    assert len(texts) == 2
    seen, stop = set(), threading.Event()

    def look():
        while not stop.is_set():
            seen.add(nodes.file("docker.io").read_text())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for turn in range(12):
            process = subprocess.Popen(["busybox", "sh", str(NODES), "apply"], env={
                **nodes.environment, "MIRROR": f"http://127.0.0.1:{5000 + turn % 2 * 1000}"}, stdout=subprocess.DEVNULL)
            if turn % 3 == 0:
                process.kill()
            process.wait()
    finally:
        stop.set()
        thread.join()
    assert seen <= texts, seen - texts


def test_nodes_are_watched(case):
    """A file that goes is written again; SIGTERM puts back what was there."""
    nodes = Nodes(case, INTERVAL="1", RESTORE_ON_STOP="true")
    nodes.put("ghcr.io", "own\n")
    before = nodes.tree()
    process = case.spawn("nodes", ["busybox", "sh", NODES, "watch"], nodes.environment)
    cases.poll("it has written", lambda: nodes.file("docker.io").exists() and nodes.file("ghcr.io").read_text() != "own\n")
    nodes.file("docker.io").unlink()
    cases.poll("it is written again", nodes.file("docker.io").exists)
    process.popen.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert nodes.tree() == before, nodes.tree()


def test_containerd_reads_what_nodes_writes(case):
    """containerd pulls through the cache with these files, and past it when they are gone."""
    image = case.images["test/layers:1"]
    registry = origin.Registry(case)
    cache = sluice.Sluice(case, registry.url)
    containerd = clients.Containerd(case, cache.port, registry.url)
    nodes = Nodes(case, mirror=f"http://127.0.0.1:{cache.port}", registries=f"docker.io={registry.url}")
    nodes.root = containerd.home / "certs.d"
    nodes.environment["ROOT"] = str(nodes.root)
    nodes.file("docker.io").unlink()
    nodes.run("apply")
    containerd.pull(image)
    containerd.verify(image, None)
    assert cache.total("sluice_blob_requests_total") >= len(image.layers), "it went past the cache"
