"""The real clients, each with folders of its own, configured with the lines of docs/clients.md.

A client can pull an image, say whether it has it whole, forget it, and be killed. Its only way is the address that it
is given: whatever else it tries ends at a DeadEnd, which remembers it. The host's own daemons and images are left
alone.
"""

import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tarfile
import threading

from harness import case as cases

PAGE = pathlib.Path(__file__).resolve().parents[3] / "docs" / "clients.md"
ADDRESS = "127.0.0.1:5000"  # as it stands on the page
APART = ("unshare", "--mount", "--propagation", "private", "sh", "-c")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def snippet(heading, name, replace=None):
    """The indented lines of the page that follow the words `name`: below "## heading", with `replace` done in them."""
    section = re.search(rf"^## {re.escape(heading)}.*?\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S)
    assert section, f"docs/clients.md has no section {heading}"
    found = re.search(rf"`{re.escape(name)}`(?:(?!\n\n).)*:\n\n((?:(?:    [^\n]*)?\n)+)", section.group(1), re.S)
    assert found, f"docs/clients.md shows no {name} under {heading}"
    text = re.sub(r"^    ", "", found.group(1), flags=re.M).strip() + "\n"
    for old, new in (replace or {}).items():
        assert old in text, f"{name} on the page does not mention {old}"
        text = text.replace(old, new)
    return text


def contents(registry, image):
    """{path: digest} of the regular files in an image's layers, as the origin has them."""
    files = {}
    for layer in image.layers:
        data = registry.get(f"/v2/{image.repository}/blobs/{layer}").body
        if data.startswith(b"\x28\xb5\x2f\xfd"):
            data = subprocess.run(["zstd", "-dc"], input=data, stdout=subprocess.PIPE, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as archive:
            for member in archive:
                if member.isreg():
                    files[member.name] = hashlib.sha256(archive.extractfile(member).read()).hexdigest()
    return files


def _files_below(folder):
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}


def in_some_layer(folder, expected):
    """Whether vfs has these files and no others in one of its folders; it keeps one for each layer."""
    layers = [path for path in folder.iterdir() if path.is_dir()] if folder.exists() else []
    return any(_files_below(path) == expected for path in layers)


def if_it_runs_here(make, case, *arguments):
    """make(case, *arguments), or None where this machine cannot run that client."""
    try:
        return make(case, *arguments)
    except cases.Skip as skip:
        case.say(f"{make.name}: SKIP: {skip}")
        return None


class DeadEnd:
    """The forward proxy of clients that shall reach nothing: it notes where they wanted to go, and closes."""

    def __init__(self, case):
        self.wanted = []
        self._listener = socket.create_server(("127.0.0.1", case.port()))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        case.defer(self._close)

    def environment(self):
        return {name: self.url for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")}

    def _run(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                try:
                    line = connection.recv(4096).split(b"\r\n")[0].decode("latin-1")
                except OSError:
                    line = ""
                self.wanted.append(line)

    def _close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


class Client:
    """`port` is sluice's. `registry` stands in for the registry that it falls back to; without one it has none."""

    name = ""
    program = ""
    package = ""

    def __init__(self, case, port, registry=None):
        self.case = case
        self.address = f"127.0.0.1:{port}"
        self.registry = registry
        self.program_path = shutil.which(self.program, path=PATH)
        if self.program_path is None:
            case.skip(f"no {self.program}: the Debian package {self.package} is not installed")
        # Short: sockets stand below it.
        self.home = case.folder(f"{self.name}-{port}")
        self.dead_end = DeadEnd(case)
        self.environment = {"PATH": PATH, "HOME": str(self.home), "TMPDIR": str(case.folder(f"{self.name}-tmp")),
                            "XDG_RUNTIME_DIR": str(case.folder(f"{self.name}-run")), **self.dead_end.environment()}
        self.pulling = None
        self.set_up()

    # --- for tests ---

    def pull(self, image, *where, check=True):
        """From Docker Hub, unless another registry is named. Returns the CompletedProcess."""
        return self.case.run(*self.command(image, *where), check=check, environment=self.environment)

    def begin(self, image):
        """Starts a pull that is to be killed."""
        self.pulling = self.case.spawn(f"{self.name} pull", self.command(image), self.environment)

    def kill(self):
        """SIGKILL, and its daemon with it; then the daemon is started again."""
        self.pulling.kill()

    def verify(self, image, files, registry="docker.io"):
        """Fails unless it has the image, whole and right; `files` are its contents()."""
        raise NotImplementedError

    def wipe(self):
        raise NotImplementedError

    # --- for the clients ---

    def set_up(self):
        raise NotImplementedError

    def trust(self, certificate):
        """Makes sluice's authority known to it, where its documentation says."""
        raise NotImplementedError

    def command(self, image):
        raise NotImplementedError

    def run(self, *arguments, check=True):
        return self.case.run(self.program_path, *arguments, check=check, environment=self.environment)

    def file(self, name, text):
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def wait_for(self, process, probe):
        """Waits for a daemon; where it does not start the test is skipped."""
        def answers():
            if not process.alive():
                raise AssertionError("it ended")
            return probe()

        try:
            cases.poll(f"{process.name} answers", answers, 40, 0.1)
        except AssertionError as error:
            last = process.log().strip().splitlines()[-1:] or [str(error)]
            self.case.skip(f"{process.name} does not start here: {last[0][:300]}")


class Docker(Client):
    """dockerd with its own data, sockets and process id, and without a network of its own.

    It has no fallback but Docker Hub, so `registry` means nothing here.
    """

    name, program, package = "docker", "docker", "docker.io"

    def set_up(self):
        self.daemon_path = shutil.which("dockerd", path=PATH)
        if self.daemon_path is None:
            self.case.skip("no dockerd: the Debian package docker.io is not installed")
        if os.geteuid() != 0:
            self.case.skip("dockerd needs root")
        self.socket = f"unix://{self.home}/docker.sock"
        self.environment["DOCKER_CONFIG"] = str(self.home / "config")
        self.settings = self.file("daemon.json", snippet("docker", "/etc/docker/daemon.json", {ADDRESS: self.address}))
        self.start()

    def start(self):
        # In a mount namespace of its own: what it mounts goes away with it, also when it is killed. It writes a key and
        # looks for certificates below /etc/docker, whatever it is told.
        self.daemon = self.case.spawn("dockerd", [
            *APART, 'if [ -d /etc/docker ]; then mount --bind "$0" /etc/docker; fi && exec "$@"',
            self.case.folder(f"{self.home.name}/etc"), self.daemon_path, "--config-file", self.settings,
            "--data-root", self.home / "data", "--exec-root", self.home / "exec", "--pidfile", self.home / "pid",
            "--host", self.socket, "--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs",
            "--containerd-namespace=sluice-e2e", "--containerd-plugins-namespace=sluice-e2e-plugins"], self.environment)
        self.wait_for(self.daemon, lambda: self.run("version", check=False).returncode == 0)

    def trust(self, certificate):
        # docker login asks the daemon.
        self.file(f"etc/certs.d/{self.address}/ca.crt", certificate.read_text())

    def run(self, *arguments, check=True):
        return super().run("--host", self.socket, *arguments, check=check)

    def inspect(self, name):
        return json.loads(self.run("image", "inspect", name).stdout)[0]

    def command(self, image):
        return [self.program_path, "--host", self.socket, "pull", image.name]

    def kill(self):
        of_containerd = self.home / "exec/containerd/containerd.pid"
        containerd = int(of_containerd.read_text())
        self.daemon.kill()
        self.pulling.kill()
        # It dies with dockerd, a moment later; the next dockerd must not find it, nor those numbers.
        cases.poll("dockerd's containerd has ended", lambda: not pathlib.Path(f"/proc/{containerd}").exists())
        of_containerd.unlink()
        (self.home / "pid").unlink(missing_ok=True)
        self.start()

    def verify(self, image, files, registry="docker.io"):
        pulled = self.inspect(image.name)
        repository = image.repository.removeprefix("library/")
        assert pulled["RepoDigests"] == [f"{repository}@{image.digest}"], pulled["RepoDigests"]
        assert not image.config or pulled["Id"] == image.config, f"{pulled['Id']} instead of {image.config}"
        assert in_some_layer(self.home / "data/vfs/dir", files), "not the files of the image"

    def wipe(self):
        names = self.run("image", "ls", "--quiet", "--no-trunc").stdout.split()
        if names:
            self.run("image", "rm", "--force", *names)


class BuildKit(Docker):
    """The BuildKit in dockerd, which pulls what a Dockerfile starts from."""

    name = "buildkit"

    def set_up(self):
        self.environment["DOCKER_BUILDKIT"] = "1"
        super().set_up()
        if self.run("build", "--help", check=False).returncode != 0:
            self.case.skip("this docker needs a plugin for BuildKit, which is not installed")

    def command(self, image):
        self.file("context/Dockerfile", f"FROM {image.name}\nLABEL tried=yes\n")
        return [self.program_path, "--host", self.socket, "build", "--progress=plain", "--tag=built",
                self.home / "context"]

    def verify(self, image, files, registry="docker.io"):
        built = self.inspect("built")
        assert built["Config"]["Labels"] == {"tried": "yes"}, built["Config"]
        assert in_some_layer(self.home / "data/vfs/dir", files), "not the files of the image"

    def wipe(self):
        super().wipe()
        self.run("builder", "prune", "--all", "--force")


class Containerd(Client):
    """containerd, and what `ctr` fetches into its content store: nothing is unpacked, which would take privileges."""

    name, program, package = "containerd", "ctr", "containerd"
    namespace = "default"
    apart = ()

    def set_up(self):
        self.daemon_path = shutil.which("containerd", path=PATH)
        if self.daemon_path is None:
            self.case.skip("no containerd: the Debian package containerd is not installed")
        if os.geteuid() != 0:
            self.case.skip("containerd needs root")
        self.socket = self.home / "containerd.sock"
        self.settings = self.file("config.toml", "\n".join([
            f'root = "{self.home}/root"', f'state = "{self.home}/state"', *self.configuration(),
            "[grpc]", f'address = "{self.socket}"', '[plugins."io.containerd.internal.v1.opt"]',
            f'path = "{self.home}/opt"', ""]))
        server = {"https://registry-1.docker.io": self.registry} if self.registry else {}
        self.mirror("docker.io", snippet("containerd", "/etc/containerd/certs.d/docker.io/hosts.toml",
                                         {ADDRESS: self.address, **server}))
        self.start()

    def configuration(self):
        return ["version = 2", 'disabled_plugins = ["io.containerd.grpc.v1.cri"]']

    def mirror(self, registry, text):
        self.file(f"certs.d/{registry}/hosts.toml", text)

    def start(self):
        self.daemon = self.case.spawn("containerd", [*self.apart, self.daemon_path, "--config", self.settings],
                                      self.environment)
        self.wait_for(self.daemon, lambda: self.ctr("version", check=False).returncode == 0)

    def ctr(self, *arguments, check=True):
        return self.run("--address", self.socket, "--namespace", self.namespace, *arguments, check=check)

    def command(self, image, registry="docker.io"):
        # ctr asks the registry itself, with containerd's resolver.
        return [self.program_path, "--address", self.socket, "content", "fetch", "--hosts-dir", self.home / "certs.d",
                f"{registry}/{image.name}"]

    def kill(self):
        self.daemon.kill()
        self.pulling.kill()
        self.start()

    def verify(self, image, files, registry="docker.io"):
        listed = [line.split() for line in self.ctr("images", "ls").stdout.splitlines()]
        assert any(line[0] == f"{registry}/{image.name}" and line[2] == image.digest for line in listed), listed
        content = self.home / "root/io.containerd.content.v1.content/blobs/sha256"
        # Of an index, those of this machine's platform.
        wanted = [image.digest] if not image.config else [*image.manifests, *image.blobs]
        for digest in wanted:
            path = content / digest.removeprefix("sha256:")
            assert path.exists(), f"{digest} is missing"
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name, f"{digest} is not what it says"

    def wipe(self):
        names = self.ctr("images", "ls", "--quiet").stdout.split()
        if names:
            self.ctr("images", "rm", "--sync", *names)


class Kubernetes(Containerd):
    """containerd as the kubelet asks it, which also unpacks."""

    name, namespace = "kubernetes", "k8s.io"
    # What it mounts while it unpacks goes away with it, also when it is killed.
    apart = ("unshare", "--mount", "--propagation", "private")

    def configuration(self):
        plugin = '[plugins."io.containerd.grpc.v1.cri"'
        return [snippet("containerd", "/etc/containerd/config.toml", {"/etc/containerd": str(self.home)}),
                f"{plugin}.containerd]", 'snapshotter = "native"',
                f"{plugin}.cni]", f'conf_dir = "{self.home}/cni"', f'bin_dir = "{self.home}/cni"']

    def start(self):
        super().start()
        plugins = [line.split() for line in self.ctr("plugins", "ls").stdout.splitlines()]
        if not any(plugin[1:2] == ["cri"] and plugin[-1] == "ok" for plugin in plugins):
            said = [line for line in self.daemon.log().splitlines()
                    if "grpc.v1.cri" in line and "level=info" not in line]
            self.case.skip(f"containerd's CRI plugin does not start here: {''.join(said[-1:])[:300]}")

    def command(self, image, registry="docker.io"):
        return ["python3", "-B", pathlib.Path(__file__).with_name("cri.py"), self.socket, f"{registry}/{image.name}"]

    def verify(self, image, files, registry="docker.io"):
        super().verify(image, files, registry)
        snapshots = self.home / "root/io.containerd.snapshotter.v1.native/snapshots"
        assert in_some_layer(snapshots, files), "not the files of the image"


class Podman(Client):
    """podman with its own storage and configuration. `registry` is a host and port without TLS."""

    name, program, package = "podman", "podman", "podman"
    as_json = ("--format", "json")

    def set_up(self):
        self.policy = self.file("policy.json", '{"default": [{"type": "insecureAcceptAnything"}]}')
        fallback = {'location = "docker.io"': f'location = "{self.registry}"\ninsecure = true'} if self.registry else {}
        self.registries = self.file("registries.conf", snippet(
            "podman", "/etc/containers/registries.conf.d/sluice.conf", {ADDRESS: self.address, **fallback}))
        self.storage = self.home / "storage"
        self.environment |= {
            "CONTAINERS_REGISTRIES_CONF": str(self.registries),
            "CONTAINERS_STORAGE_CONF": str(self.file("storage.conf", "\n".join([
                "[storage]", 'driver = "vfs"', f'graphroot = "{self.storage}"', f'runroot = "{self.home}/run"', ""]))),
            "CONTAINERS_CONF": str(self.file("containers.conf", "\n".join([
                "[engine]", f'tmp_dir = "{self.home}/tmp"', f'static_dir = "{self.home}/static"',
                f'volume_path = "{self.home}/volumes"', 'events_logger = "none"', 'cgroup_manager = "cgroupfs"',
                "[network]", f'network_config_dir = "{self.home}/networks"', ""])))}
        # They remember blobs below /var/lib/containers and look for certificates below /etc/containers, wherever all
        # the rest is: these are others where that can be.
        self.apart = []
        if subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL).returncode == 0:
            self.apart = [*APART, "mount -t tmpfs none /var/lib && "
                          'if [ -d /etc/containers ]; then mount --bind "$0" /etc/containers; fi && exec "$@"',
                          self.case.folder(f"{self.home.name}/etc")]
        tried = self.tool(*self.trial(), check=False)
        if tried.returncode != 0:
            last = tried.stdout.strip().splitlines()[-1:] or ["it said nothing"]
            self.case.skip(f"{self.name} does not run here: {last[0][:300]}")

    def trust(self, certificate):
        if not self.apart:
            self.case.skip(f"{self.name} cannot be given a certificate here")
        self.file(f"etc/certs.d/{self.address}/ca.crt", certificate.read_text())
        self.registries.write_text(self.registries.read_text().replace("insecure = true\n", ""))

    def trial(self):
        return ["info"]

    def tool(self, *arguments, check=True):
        return self.case.run(*self.apart, self.program_path, *arguments, check=check, environment=self.environment)

    def command(self, image, registry="docker.io"):
        return [*self.apart, self.program_path, "pull", "--quiet", "--signature-policy", self.policy,
                f"{registry}/{image.name}"]

    def verify(self, image, files, registry="docker.io"):
        listed = json.loads(self.tool("images", "--no-trunc", *self.as_json).stdout)
        listed = [{key.lower(): value for key, value in entry.items()} for entry in listed]
        found = [entry for entry in listed if f"{registry}/{image.name}" in entry["names"]]
        assert len(found) == 1, listed
        ids = found[0]["id"].removeprefix("sha256:"), found[0]["digest"]
        assert ids[1] == image.digest and (not image.config or f"sha256:{ids[0]}" == image.config), ids
        assert in_some_layer(self.storage / "vfs/dir", files), "not the files of the image"

    def wipe(self):
        self.tool("rmi", "--all", "--force")


class Buildah(Podman):
    name, program, package = "buildah", "buildah", "buildah"
    as_json = ("--json",)


class Skopeo(Podman):
    """skopeo, which copies an image as it is into a folder."""

    name, program, package = "skopeo", "skopeo", "skopeo"

    def trial(self):
        return ["--version"]

    def command(self, image, registry="docker.io", *options):
        shutil.rmtree(self.storage, ignore_errors=True)
        return [*self.apart, self.program_path, "--registries-conf", self.registries, "--policy", self.policy, "copy",
                "--quiet", "--preserve-digests", *options, f"docker://{registry}/{image.name}",
                f"dir:{self.storage}"]

    def verify(self, image, files, registry="docker.io"):
        manifest = (self.storage / "manifest.json").read_bytes()
        assert "sha256:" + hashlib.sha256(manifest).hexdigest() in image.manifests, manifest
        for digest in json.loads(manifest)["layers"] + [json.loads(manifest)["config"]]:
            path = self.storage / digest["digest"].removeprefix("sha256:")
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name, f"{digest} is not what it says"

    def wipe(self):
        shutil.rmtree(self.storage, ignore_errors=True)
