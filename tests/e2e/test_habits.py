"""Real clients pull through sluice from a registry with all the bad habits at once: whole and right, each time."""

import base64
import json
import time

from harness import clients, habits, images, origin, sluice

SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
NAMES = ("test/layers:1", "library/busybox:latest")


class World:
    """The registry behind its front door, and sluice. What sluice learns grows old within a second."""

    def __init__(self, case):
        source = origin.Registry(case)
        self.wanted = [case.images[name] for name in NAMES]
        self.files = {image.name: clients.contents(source, image) for image in self.wanted}
        self.registry = habits.Registry(case, source, self.wanted)
        source.stop()
        self.door = habits.FrontDoor(case, self.registry.url)
        self.cache = sluice.Sluice(case, config=f"""\
tags: {{ ttl: 0s }}
descriptors: {{ ttl: 1s }}
default_upstream: docker.io
upstreams:
  docker.io: {{ url: '{self.door.url}' }}
""")

    def stop_registry(self):
        self.door.stop()
        self.registry.stop()

    def pull(self, client):
        for image in self.wanted:
            client.pull(image)
            client.verify(image, self.files[image.name])
        client.wipe()


def pull_in_all_ways(case, make):
    world = World(case)
    client = make(case, world.cache.port)
    case.say("cold")
    world.pull(client)
    assert world.registry.tokens > 0, "the registry behind the door was not asked with a token"
    case.say("warm")
    world.pull(client)
    case.say("after descriptors.ttl")
    time.sleep(1.5)
    world.pull(client)
    for digest in world.registry.blobs:
        assert world.cache.keeps(digest), f"{digest} is not stored"
    world.stop_registry()
    case.say("without the registry")
    world.pull(client)
    time.sleep(1.5)
    world.pull(client)
    world.cache.stop()
    return client


def test_docker(case):
    pull_in_all_ways(case, clients.Docker)


class BothNames(clients.Containerd):
    """The registry's name stands in the path and in `ns` at once, as k3s and `override_path` have it."""

    def set_up(self):
        super().set_up()
        self.mirror("docker.io", f"""\
server = "http://{self.address}/v2/docker.io"
[host."http://{self.address}/v2/docker.io"]
  capabilities = ["pull", "resolve"]
  override_path = true
""")


def test_containerd(case):
    pull_in_all_ways(case, clients.Containerd)


def test_containerd_with_prefix_and_namespace(case):
    pull_in_all_ways(case, BothNames)


def test_podman(case):
    pull_in_all_ways(case, clients.Podman)


def test_skopeo(case):
    pull_in_all_ways(case, clients.Skopeo)


def signed():
    """A docker schema 1 manifest with a signature around it, and the digest that registries give it."""
    payload = json.dumps({"schemaVersion": 1, "name": "test/layers", "tag": "1", "architecture": "amd64",
                          "fsLayers": [], "history": []}, indent=3).encode()
    kept, tail = payload[:-2], payload[-2:]
    protected = json.dumps({"formatLength": len(kept), "formatTail": base64.urlsafe_b64encode(tail).decode()})
    protected = base64.urlsafe_b64encode(protected.encode()).decode().rstrip("=")
    signature = json.dumps([{"signature": "c2lnbmVk", "protected": protected}]).encode()
    return kept + b',\n   "signatures": ' + signature + tail, images.sha256(payload)


def test_odd_manifests(case):
    """By digest each comes as it is, with the type that the registry gives it, whatever the client says it accepts."""
    world = World(case)
    body, digest = signed()
    odd = {
        world.registry.add_manifest(body, SCHEMA1, digest): (body, SCHEMA1),
    }
    artifact = "application/vnd.oci.artifact.manifest.v1+json"
    for said, body in (
            (artifact, json.dumps({"mediaType": artifact, "artifactType": "a/b", "blobs": []}).encode()),
            ("application/vnd.cncf.oras.artifact.manifest.v1+json", b'{"artifactType": "a/b", "blobs": []}'),
            ("application/vnd.example.v1+json", b"[1, 2, 3]"),
            (images.DOCKER_MANIFEST, json.dumps({"schemaVersion": 2, "mediaType": images.OCI_INDEX}).encode()),
            (images.OCI_MANIFEST, b'{"schemaVersion": 2, "annotations": {"by": "Ren\xe9"}}')):
        odd[world.registry.add_manifest(body, said)] = (body, said)

    def check(stale):
        for digest, (body, said) in odd.items():
            for method in ("GET", "HEAD", "GET"):
                answer = world.cache.get(f"/v2/test/layers/manifests/{digest}", {"Accept": images.ACCEPT}, method)
                assert answer.status == 200 and answer.headers["content-type"] == said, f"{said}: {answer}"
                assert answer.headers["docker-content-digest"] == digest, answer.headers
                assert answer.headers["content-length"] == str(len(body)), answer.headers
                assert method == "HEAD" or answer.body == body, f"{said}: {answer.body}"
                assert not stale or "warning" in answer.headers, f"{said}: {answer.headers}"

    check(stale=False)
    check(stale=False)
    time.sleep(1.5)
    check(stale=False)
    for digest in odd:
        assert world.registry.count("GET", digest) >= 1
    world.stop_registry()
    time.sleep(1.5)
    check(stale=True)
    world.cache.restart()
    check(stale=True)
