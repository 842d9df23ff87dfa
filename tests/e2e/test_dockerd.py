"""A Docker daemon with sluice as its registry mirror. The host's own daemon, if there is one, is left alone."""

import json
import os
import shutil

from harness import case as cases
from harness import faults, origin, sluice


class Daemon:
    """Debian's dockerd with its own data, sockets and process id, and without a network of its own."""

    def __init__(self, case, mirror):
        self.case = case
        program = shutil.which("dockerd", path="/usr/sbin:/usr/bin")
        self.client = shutil.which("docker", path="/usr/bin")
        if program is None or self.client is None:
            case.skip("no dockerd: the Debian package docker.io is not installed")
        if os.geteuid() != 0:
            case.skip("dockerd needs root")
        home = case.folder("docker")
        self.socket = f"unix://{home}/docker.sock"
        # Were sluice to fail, the daemon would turn to Docker Hub: a proxy that is not there keeps it on this machine.
        self.environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(home), "DOCKER_CONFIG": str(home / "config"),
            "HTTP_PROXY": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.1"}
        # In a mount namespace of its own: what it mounts goes away with it, also when it is killed.
        self.process = case.spawn("dockerd", [
            "unshare", "--mount", "--propagation", "private", program, "--data-root", home / "data", "--exec-root", home / "exec", "--pidfile", home / "pid",
            "--host", self.socket, "--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs",
            "--containerd-namespace=sluice-e2e", "--containerd-plugins-namespace=sluice-e2e-plugins",
            "--registry-mirror", mirror], self.environment)
        try:
            cases.poll("dockerd answers", self._answers, 40, 0.1)
        except AssertionError as error:
            last = self.process.log().strip().splitlines()[-1:] or [str(error)]
            case.skip(f"dockerd does not start here: {last[0][:300]}")

    def _answers(self):
        if not self.process.alive():
            raise AssertionError("it ended")
        return self.run("version", check=False).returncode == 0

    def run(self, *arguments, check=True):
        return self.case.run(self.client, "--host", self.socket, *arguments, check=check, environment=self.environment)

    def image(self, name):
        return json.loads(self.run("image", "inspect", name).stdout)[0]


def test_pulls_through_its_mirror(case):
    image = case.images["library/busybox:latest"]
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    cache = sluice.Sluice(case, proxy.url)
    daemon = Daemon(case, f"http://127.0.0.1:{cache.port}")

    daemon.run("pull", "busybox:latest")
    pulled = daemon.image("busybox:latest")
    assert pulled["Id"] == image.config, f"{pulled['Id']} instead of {image.config}"
    assert pulled["RepoDigests"] == [f"busybox@{image.digest}"], pulled["RepoDigests"]
    for digest in image.blobs:
        assert proxy.count("GET", digest) == 1

    daemon.run("rmi", "busybox:latest")
    registry.stop()
    proxy.refuse()
    daemon.run("pull", "busybox:latest")
    assert daemon.image("busybox:latest")["Id"] == image.config


def test_pulls_one_platform_of_an_index(case):
    index = case.images["test/multi:1"]
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    cache = sluice.Sluice(case, proxy.url)
    daemon = Daemon(case, f"http://127.0.0.1:{cache.port}")

    daemon.run("pull", "test/multi:1")
    assert daemon.image("test/multi:1")["RepoDigests"] == [f"test/multi@{index.digest}"]
    asked = [digest for digest in index.blobs if proxy.count("GET", digest)]
    assert len(asked) < len(index.blobs), "blobs of the platform that nobody asked for were fetched"
    daemon.run("rmi", "test/multi:1")
    proxy.refuse()
    daemon.run("pull", f"test/multi@{index.digest}")
