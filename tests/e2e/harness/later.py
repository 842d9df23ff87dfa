"""Clients of later Debian releases, from root file systems that somebody has installed.

SLUICE_E2E_ROOTS names them, separated by colons: folders made by `debootstrap`, with docker.io, docker-cli, podman and
skopeo in them. Their programs run by chroot in mount namespaces of their own, which go away with them, and see the
machine's /tmp where it is.
"""

import os
import pathlib
import shutil

from harness import case as cases
from harness import clients

# dockerd unpacks layers only where its root is a mount point.
MOUNT = ("mount --bind \"$0\" \"$0\" && for kind in proc sys dev; do mount --rbind /$kind \"$0/$kind\" || exit; done; "
         "mount --bind /tmp \"$0/tmp\" && exec chroot \"$0\" \"$@\"")


class Root:
    def __init__(self, case, path):
        self.case, self.path = case, pathlib.Path(path)
        version = self.path / "etc/debian_version"
        self.name = version.read_text().strip() if version.exists() else self.path.name

    def command(self, *arguments):
        return [*clients.APART, MOUNT, self.path, *arguments]

    def has(self, program):
        return shutil.which(program, path=":".join(str(self.path / folder.lstrip("/"))
                                                   for folder in clients.PATH.split(":"))) is not None

    def run(self, *arguments, **options):
        return self.case.run(*self.command(*arguments), **options)


def roots(case, *programs):
    """Those that have these programs; where there is none the test is skipped."""
    paths = [path for path in os.environ.get("SLUICE_E2E_ROOTS", "").split(":") if path]
    if not paths:
        case.skip("SLUICE_E2E_ROOTS names no root file system of a later Debian")
    if os.geteuid() != 0:
        case.skip("chroot needs root")
    found = [root for root in (Root(case, path) for path in paths) if all(root.has(name) for name in programs)]
    if not found:
        case.skip(f"no root file system of SLUICE_E2E_ROOTS has {', '.join(programs)}")
    return found


class Docker(clients.Docker):
    """dockerd from a root, with one of its two image stores. It pulls by prefix: it has no mirror."""

    def __init__(self, case, port, root, containerd_store):
        self.root, self.containerd_store = root, containerd_store
        super().__init__(case, port)

    def set_up(self):
        self.socket = f"unix://{self.home}/docker.sock"
        self.environment["DOCKER_CONFIG"] = str(self.home / "config")
        store = str(self.containerd_store).lower()
        self.settings = self.file("daemon.json", f'{{"features": {{"containerd-snapshotter": {store}}}}}')
        self.start()

    def start(self):
        driver = "native" if self.containerd_store else "vfs"
        self.daemon = self.case.spawn("dockerd", self.root.command(
            "dockerd", "--config-file", self.settings, "--data-root", self.home / "data", "--exec-root",
            self.home / "exec", "--pidfile", self.home / "pid", "--host", self.socket, "--iptables=false",
            "--ip6tables=false", "--bridge=none", f"--storage-driver={driver}"), self.environment)
        self.wait_for(self.daemon, lambda: self.run("version", check=False).returncode == 0)

    def run(self, *arguments, check=True):
        return self.root.run("docker", "--host", self.socket, *arguments, check=check, environment=self.environment)

    def version(self):
        return self.run("version", "--format", "{{.Server.Version}}").stdout.strip()

    def verify_pulled(self, name, image, files):
        pulled = self.inspect(name)
        digests = [digest for digest in pulled["RepoDigests"] if digest.endswith(f"@{image.digest}")]
        assert digests, pulled["RepoDigests"]
        folders = ([path for path in (self.home / "data").rglob("snapshots") if path.is_dir()]
                   if self.containerd_store else [self.home / "data/vfs/dir"])
        assert any(clients.in_some_layer(folder, files) for folder in folders), "not the files of the image"


class Containerd(clients.Containerd):
    """containerd from a root, with the lines of docs/clients.md."""

    def __init__(self, case, port, root):
        self.root = root
        super().__init__(case, port)

    def start(self):
        self.daemon = self.case.spawn("containerd", self.root.command("containerd", "--config", self.settings),
                                      self.environment)
        self.wait_for(self.daemon, lambda: self.ctr("version", check=False).returncode == 0)

    def run(self, *arguments, check=True):
        return self.root.run("ctr", *arguments, check=check, environment=self.environment)

    def command(self, image, registry="docker.io"):
        return self.root.command(*super().command(image, registry))

    def version(self):
        return self.root.run("containerd", "--version").stdout.split()[2]


def stop(client):
    """Its daemon, before the next one of the same test."""
    client.daemon.stop()
    cases.poll(f"{client.daemon.name} has ended", lambda: not client.daemon.alive())
