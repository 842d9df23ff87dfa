"""`sluice doctor` on the configuration of real clients, before a running sluice."""

import json

from harness import case as cases
from harness import clients, faults, origin, sluice
from test_entry import ALICE


class Machine:
    """A root that has the files of clients, and sluice before a registry that stands in for all others."""

    def __init__(self, case, upstreams=("docker.io", "ghcr.io"), more=()):
        self.case = case
        self.proxy = faults.FaultProxy(case, origin.Registry(case).port)
        self.cache = sluice.Sluice(case, config="\n".join([
            "tags:", "  ttl: 1h", *more, "upstreams:", *(f"  {name}:\n    url: {self.proxy.url}" for name in upstreams), ""]))
        self.root = case.folder("root")

    def file(self, path, text):
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def doctor(self, *options, code=0, port=None):
        done = self.case.run(
            sluice.binary(), "doctor", "--json", "--root", self.root, "--server", f"127.0.0.1:{port or self.cache.port}",
            "--admin", f"127.0.0.1:{self.cache.admin_port}", *options, check=False,
            environment={"PATH": clients.PATH, "HOME": str(self.case.folder("home"))})
        assert done.returncode == code, f"ended with {done.returncode}: {done.stdout}"
        return json.loads(done.stdout.splitlines()[-1])

    def manifests(self):
        return [request.path for request in self.proxy.requests if "/manifests/" in request.path]

    def past_the_cache(self):
        """The manifests that somebody else than the cache has asked the registry for."""
        def agent(request):
            return {name.lower(): value for name, value in request.headers.items()}.get("user-agent", "")

        return [request.path for request in self.proxy.requests
                if "/manifests/" in request.path and not agent(request).startswith("sluice")]


def verdicts(said, upstream):
    return {each["client"]: each for each in said["verdicts"] if each["upstream"] == upstream}


def problems(said):
    return sorted(each["name"] for each in said["findings"] if each["problem"])


def docker(machine, address):
    machine.file("/etc/docker/daemon.json", clients.snippet("docker", "/etc/docker/daemon.json", {clients.ADDRESS: address}))


def containerd(machine, address):
    machine.file("/etc/containerd/config.toml", clients.snippet("containerd", "/etc/containerd/config.toml"))
    machine.file("/etc/containerd/certs.d/docker.io/hosts.toml", clients.snippet(
        "containerd", "/etc/containerd/certs.d/docker.io/hosts.toml", {clients.ADDRESS: address}))


def podman(machine, address):
    machine.file("/etc/containers/registries.conf.d/sluice.conf", clients.snippet(
        "podman", "/etc/containers/registries.conf.d/sluice.conf", {clients.ADDRESS: address}))


def buildkit(machine, address):
    machine.file("/etc/buildkit/buildkitd.toml", clients.snippet(
        "BuildKit", "/etc/buildkit/buildkitd.toml", {clients.ADDRESS: address}))


def test_lines_of_the_page(case):
    """The lines of docs/clients.md: nothing is wrong with them, and each client's request arrives in the cache."""
    machine = Machine(case)
    for write in (docker, containerd, podman, buildkit):
        write(machine, f"127.0.0.1:{machine.cache.port}")
    said = machine.doctor("--canary")
    hub, other = verdicts(said, "docker.io"), verdicts(said, "ghcr.io")
    assert sorted(hub) == ["buildkit", "containerd", "docker", "podman"], hub
    assert {each["outcome"] for each in hub.values()} == {"used"}, hub
    assert [other[name]["outcome"] for name in ("buildkit", "containerd", "docker", "podman")] == [
        "used", "unused", "unused", "used"], other
    # The cache has counted each of them for the right upstream, also where the registry has no such image.
    for each in [*hub.values(), other["podman"], other["buildkit"]]:
        assert each["canary"]["arrived"] and each["canary"]["counted"], each
    assert {each["canary"]["status"] for each in hub.values()} == {200}, hub
    assert other["podman"]["canary"]["status"] == 404, other
    for name in hub:
        cases.poll(f"the access log has the request of {name}", lambda: f"({name})" in machine.cache.process.log())
    # What the cache has is asked for by preference, and then upstream is not asked.
    asked = len(machine.manifests())
    hub = verdicts(machine.doctor("--canary"), "docker.io")
    assert {each["canary"]["cache_status"] for each in hub.values()} == {"sluice; hit"}, hub
    assert not any("busybox" in path and "containerd" not in path for path in machine.manifests()[asked:])

    # Without --canary the files alone are read.
    before = machine.cache.total("sluice_manifest_requests_total")
    said = machine.doctor()
    assert not any("canary" in each for each in said["verdicts"]), said
    assert machine.cache.total("sluice_manifest_requests_total") == before


def test_what_only_a_request_shows(case):
    machine = Machine(case)
    docker(machine, f"127.0.0.1:{machine.cache.port}")
    # Something else answers: a registry, which says 200 or 404 as the cache would.
    registry = origin.Registry(case)
    docker(machine, f"127.0.0.1:{registry.port}")
    said = machine.doctor("--canary", code=1, port=registry.port)
    assert problems(said) == ["canary-not-seen"], said
    assert verdicts(said, "docker.io")["docker"]["outcome"] == "falls_back", said
    # The registry behind the cache is out: the client would go past the cache.
    docker(machine, f"127.0.0.1:{machine.cache.port}")
    machine.proxy.refuse()
    assert problems(machine.doctor("--canary", code=1)) == ["cache-refuses"]
    # Nobody answers.
    machine.cache.stop()
    said = machine.doctor("--canary", code=1)
    assert problems(said) == ["nobody-answers"], said


def test_a_cache_that_wants_logins(case):
    """It answers 401, and counts no request without a login. The registries are those of the running cache."""
    users = case.file("htpasswd", ALICE)
    machine = Machine(case, ("docker.io", "registry.example"), ("auth:", f"  htpasswd_file: {users}"))
    docker(machine, f"127.0.0.1:{machine.cache.port}")
    said = machine.doctor("--canary")
    assert said["cache"]["upstreams"][0] == "docker.io" and "registry.example" in said["cache"]["upstreams"], said
    assert [each["name"] for each in said["findings"]] == ["cache-wants-login"], said
    hub = verdicts(said, "docker.io")["docker"]
    assert hub["outcome"] == "used" and hub["canary"]["status"] == 401, said


def test_a_client_that_it_warns_of(case):
    """What the doctor says of podman is what podman does."""
    machine = Machine(case)
    podman_client = clients.Podman(case, machine.cache.port, registry=f"127.0.0.1:{machine.proxy.port}")
    image = case.images["test/layers:1"]

    def registries(text):
        podman_client.registries.write_text(text)
        machine.file("/etc/containers/registries.conf", text)

    right = podman_client.registries.read_text()
    registries(right)
    said = machine.doctor("--canary")
    assert verdicts(said, "docker.io")["podman"]["outcome"] == "used", said
    podman_client.pull(image)
    assert machine.past_the_cache() == [], machine.past_the_cache()
    podman_client.wipe()

    # The mirror lacks `insecure`: podman goes to the registry without a word, and so says the doctor.
    mirror = f'location = "127.0.0.1:{machine.cache.port}"\ninsecure = true\n'
    assert mirror in right
    registries(right.replace(mirror, mirror.replace("insecure = true\n", "")))
    said = machine.doctor("--canary", code=1)
    assert verdicts(said, "docker.io")["podman"]["outcome"] == "falls_back", said
    assert problems(said) == ["podman-insecure-missing"], said
    podman_client.pull(image)
    assert any("test/layers" in path for path in machine.past_the_cache()), "podman did not go to the registry"
