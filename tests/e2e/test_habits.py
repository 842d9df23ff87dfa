"""Real clients pull through sluice from a registry with all the bad habits at once: whole and right, each time."""

import time

from harness import clients, habits, origin, sluice

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
