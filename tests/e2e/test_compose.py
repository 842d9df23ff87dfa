"""compose.yml and docker/fleet/compose.yml, brought up for real by docker compose."""

import json
import pathlib
import re
import threading
import time

from harness import case as cases
from harness import compose, origin
from test_image import Buildah, last_stage

ROOT = pathlib.Path(__file__).resolve().parents[2]
GATEWAY = "172.31.250.1"  # this side of compose's network; the registry listens there


def bring_up(case, file, services, **network):
    """`file` with a registry of the tests in the place of Docker Hub. The limits of descriptors are this machine's, which
    may not let anybody raise them."""
    changes = {service: {"ulimits": {"nofile": 4096}} for service in services}
    for service in services:
        if service.startswith("sluice"):
            changes[service]["environment"] = {"SLUICE_UPSTREAMS_DOCKER_IO_URL": f"http://{GATEWAY}:5555"}
    override = case.file("override.yml", json.dumps({"services": changes, **network}))
    project = compose.Compose(case, "sluice", file, override)
    # docker's own builder copies everything for each line of the Dockerfile.
    buildah = Buildah(case)
    archive = case.tmp / "sluice.tar"
    buildah("bud", "--quiet", "--format", "docker", "--isolation", "chroot", "--tag", "sluice", last_stage(case))
    buildah("push", "sluice", f"docker-archive:{archive}:docker.io/library/sluice:latest")
    project.docker("load", "--input", archive)
    return project


def registry(case, project):
    """The tests' registry, on every address of the daemon's network."""
    plain = origin.Registry(case)
    plain.stop()
    settings = json.loads(plain.config.read_text())
    settings["http"]["addr"] = ":5555"
    path = case.file("registry.yml", json.dumps(settings))
    project.spawn_inside("docker-registry", "docker-registry", "serve", path)
    cases.poll("the registry answers", lambda: project.get("http://127.0.0.1:5555/v2/", check=False).returncode == 0, 30, 0.2)


def pull(project, image, port=5000):
    """A manifest and the blobs of an image; returns the answers' heads."""
    heads = []
    for kind, names in (("manifests", [image.tag]), ("blobs", image.layers)):
        for name in names:
            heads.append(project.get(f"http://127.0.0.1:{port}/v2/{image.repository}/{kind}/{name}", "--dump-header", "-",
                                     "--output", "/dev/null").stdout)
    return heads


def test_compose_shows_what_is_pulled(case):
    """sluice becomes healthy, pulls, and Prometheus scrapes it; with Redis. Grafana is no package of Debian's: it is
    left out."""
    project = bring_up(case, ROOT / "docker/compose.yml", ["sluice"],
                       networks={"default": {"ipam": {"config": [{"subnet": "172.31.250.0/24"}]}}})
    project.image("docker.io/prom/prometheus:v3.5.0", "prometheus", "--config.file=/etc/prometheus/prometheus.yml",
                  "--storage.tsdb.path=/prometheus")
    project.image("docker.io/library/redis:8-alpine", "redis-server")
    project.environment["SLUICE_DESCRIPTORS_CACHE"] = "redis"
    project("--profile", "redis", "up", "--detach", "--pull", "never", "--no-build", "sluice", "prometheus", "redis")
    registry(case, project)
    cases.poll("docker calls it healthy", lambda: project.health("sluice") == "healthy", 60, 0.5)
    image = case.images["test/layers:1"]
    assert all(" 200 " in head for head in pull(project, image))

    def value(expression):
        answer = json.loads(project.get("http://127.0.0.1:9090/api/v1/query", "--get", "--data-urlencode",
                                        f"query={expression}").stdout)
        return [float(each["value"][1]) for each in answer["data"]["result"]]

    cases.poll("Prometheus sees the pull", lambda: sum(value("sum(sluice_blob_requests_total)")) >= len(image.layers), 60, 1)
    assert value('up{job="sluice"}') == [1.0]
    breaker = value("sluice_descriptor_redis_breaker_open")
    assert breaker == [0.0], f"it does not reach its Redis: {breaker}"
    rules = json.loads(project.get("http://127.0.0.1:9090/api/v1/rules").stdout)["data"]["groups"]
    assert {group["name"] for group in rules} >= {"sluice.alerts", "sluice.records"}, rules


def test_fleet_comes_up_and_loses_a_node(case):
    """docker/fleet/compose.yml: pulls go on while one sluice is stopped, and it ends in order."""
    project = bring_up(case, ROOT / "docker/fleet/compose.yml", ["haproxy", "sluice-1", "sluice-2", "sluice-3"])
    project.image("docker.io/library/haproxy:3.2", "haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg")
    project.image("docker.io/library/redis:8-alpine", "redis-server")
    project("up", "--detach", "--pull", "never", "--no-build")
    registry(case, project)
    for number in (1, 2, 3):
        cases.poll(f"sluice-{number} is healthy", lambda: project.health(f"sluice-{number}") == "healthy", 60, 0.5)
    images = [case.images[name] for name in ("test/layers:1", "test/oci:1", "test/zstd:1", "test/docker:1")]
    cases.poll("HAProxy finds them", lambda: project.get(
        f"http://127.0.0.1:5000/v2/{images[0].repository}/manifests/1", check=False).returncode == 0, 60, 0.5)
    nodes = [re.search(r"(?i)^x-cache-node: (\S+)", head, re.M).group(1) for image in images for head in pull(project, image)]
    case.say(f"answers by node: { {node: nodes.count(node) for node in sorted(set(nodes))} }")
    victim, failed, stop = nodes[0], [], threading.Event()

    def load():
        while not stop.is_set():
            try:
                pull(project, images[0])
            except AssertionError as error:
                failed.append(error)
            time.sleep(0.05)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        project("stop", victim)
    finally:
        stop.set()
        thread.join()
    assert not failed, failed[0]
    number = project("ps", "--all", "--quiet", victim).stdout.strip()
    assert json.loads(project.docker("inspect", number).stdout)[0]["State"]["ExitCode"] == 0
    heads = [head for image in images for head in pull(project, image)]
    assert all(" 200 " in head and victim not in head for head in heads), heads
