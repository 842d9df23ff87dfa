"""What clients do that are newer than this machine's; their root file systems come from SLUICE_E2E_ROOTS."""

import os
import shutil
import time

from harness import clients, faults, images, later, origin, sluice
from test_habits import pull_in_all_ways
from test_upstreams import config


def test_docker_pulls_by_address_with_both_image_stores(case):
    """The line that sluice prints when it starts. The containerd store tries TLS first, and goes on with plain HTTP only
    after an answer in HTTP."""
    image = case.images["test/layers:1"]
    registry = origin.Registry(case)
    files = clients.contents(registry, image)
    proxy = faults.FaultProxy(case, registry.port)
    for root in later.roots(case, "dockerd", "docker", "containerd"):
        for containerd_store in (False, True):
            cache = sluice.Sluice(case, proxy.url)
            docker = later.Docker(case, cache.port, root, containerd_store)
            store = "containerd's" if containerd_store else "the classic"
            for state in ("cold", "warm"):
                name = f"{cache_address(cache)}/{image.name}"
                started = time.monotonic()
                docker.run("pull", name)
                case.say(f"Debian {root.name}, docker {docker.version()}, {store} image store, {state}: "
                         f"{time.monotonic() - started:.1f} s")
                docker.verify_pulled(name, image, files)
                docker.run("image", "rm", "--force", name)
            later.stop(docker)
            cache.stop()


def test_containerd_with_a_hosts_file(case):
    """The lines of docs/clients.md, and those that later releases know in addition."""
    image = case.images["test/layers:1"]
    registry = origin.Registry(case)
    files = clients.contents(registry, image)
    proxy = faults.FaultProxy(case, registry.port)
    for root in later.roots(case, "containerd", "ctr"):
        cache = sluice.Sluice(case, config=config(proxy.url))
        containerd = later.Containerd(case, cache.port, root)
        path = containerd.home / "certs.d/docker.io/hosts.toml"
        plain = path.read_text()
        with_timeout = plain.replace('"resolve"]', '"resolve"]\n  dial_timeout = "2s"')
        for lines in (plain, with_timeout, with_timeout.replace('"resolve"]', '"resolve", "referrers"]')):
            path.write_text(lines)
            started = time.monotonic()
            pulled = containerd.pull(image, check=lines is plain)
            known = pulled.returncode == 0
            case.say(f"Debian {root.name}, containerd {containerd.version()}, {lines.splitlines()[3:]}: "
                     f"{f'{time.monotonic() - started:.1f} s' if known else pulled.stdout.splitlines()[0][-80:]}")
            if known:
                containerd.verify(image, files)
                containerd.wipe()
            else:
                # The whole file is refused then, and the mirror left out.
                assert "unknown capability" in pulled.stdout, pulled.stdout
                containerd.dead_end.wanted.clear()
        assert not containerd.dead_end.wanted, containerd.dead_end.wanted
        later.stop(containerd)
        cache.stop()


def cache_address(cache):
    return f"127.0.0.1:{cache.port}"


def podman_home(home, driver, *more):
    """The environment of a podman that keeps all it has in `home`."""
    (home / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    (home / "storage.conf").write_text("\n".join([
        "[storage]", f'driver = "{driver}"', f'graphroot = "{home}/storage"', f'runroot = "{home}/run"', *more, ""]))
    return {"PATH": clients.PATH, "HOME": str(home), "TMPDIR": str(home),
            "CONTAINERS_STORAGE_CONF": str(home / "storage.conf")}


class ChunkedPodman:
    """podman of a root, whose storage takes parts of layers."""

    def __init__(self, case, root):
        self.case, self.root = case, root
        self.home = case.folder(f"podman-{root.path.name}")
        self.environment = podman_home(
            self.home, "overlay", "[storage.options]",
            'pull_options = {enable_partial_images = "true", use_hard_links = "false", ostree_repos = ""}')

    def pull(self, name):
        return self.root.run("podman", "--log-level=debug", "pull", "--tls-verify=false", "--signature-policy",
                             str(self.home / "policy.json"), name, environment=self.environment).stdout

    def files(self, name):
        """{path: digest} of the image."""
        # In one go: the mount goes away with the namespace.
        script = f"m=$(podman image mount {name}) && cd $m && find . -type f -exec sha256sum {{}} +"
        listed = self.root.run("sh", "-c", script, environment=self.environment).stdout
        return {line[66:].removeprefix("./"): "sha256:" + line[:64] for line in listed.splitlines()
                if len(line) > 66 and line[64:66] == "  "}


def chunked_images(case, root, registry):
    """Two images in zstd:chunked that differ in a few files. Returns {tag: {path: content}}."""
    layout = images.Layout(case.folder(f"chunked-{registry.port}") / "oci")
    first = {f"srv/{number:03}": os.urandom(100_000) for number in range(120)}
    second = first | {f"srv/{number:03}": os.urandom(100_000) for number in range(5, 120, 23)}
    for tag, files in (("one", first), ("two", second)):
        plain = images.tar(files)
        layer = layout.add(images.OCI_LAYER, plain)
        layout.tag(layout.manifest([layer], [images.sha256(plain)]), tag)
        root.run("skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false",
                 "--dest-compress-format=zstd:chunked",
                 f"oci:{layout.folder}:{tag}", f"docker://127.0.0.1:{registry.port}/test/chunked:{tag}")
    return {"one": first, "two": second}


def test_podman_pulls_the_new_parts_of_a_zstd_chunked_layer(case):
    """From an origin that refuses several ranges in one header, through the cache. From podman 5 on."""
    for root in later.roots(case, "podman", "skopeo"):
        version = root.run("podman", "--version").stdout.split()[-1]
        assert int(version.partition(".")[0]) >= 5, f"podman {version} takes no parts of layers"
        registry = origin.Registry(case, storage=case.folder(f"chunked-registry-{root.path.name}"), writable=True)
        contents = chunked_images(case, root, registry)
        proxy = faults.FaultProxy(case, registry.port)
        proxy.one_range_only = True
        cache = sluice.Sluice(case, proxy.url)
        podman = ChunkedPodman(case, root)
        for tag, files in contents.items():
            name = f"{cache_address(cache)}/test/chunked:{tag}"
            before = proxy.bytes_sent("/blobs/")
            started = time.monotonic()
            log = podman.pull(name)
            took = time.monotonic() - started
            asked = proxy.bytes_sent("/blobs/") - before
            case.say(f"Debian {root.name}, podman {version}, {tag}: {took:.1f} s, {asked} bytes of blobs from upstream, "
                     f"of {sum(map(len, files.values()))} in files")
            expected = {path: images.sha256(content) for path, content in files.items()}
            assert podman.files(name) == expected, "not the files of the image"
            if tag == "two":
                assert "Retrieved partial blob" in log, "podman did not pull in parts"
                assert asked < sum(map(len, files.values())) / 2, f"{asked} bytes were fetched"
        assert not [r for r in proxy.requests if r.status == 501], "upstream was asked for several ranges at once"


class DockerByAddress(later.Docker):
    """Without a mirror: `docker pull 127.0.0.1:5000/NAME`."""

    def named(self, image):
        return f"{self.address}/{image.name}"

    def pull(self, image):
        return self.run("pull", self.named(image))

    def verify(self, image, files):
        self.verify_pulled(self.named(image), image, files)

    def wipe(self):
        names = self.run("image", "ls", "--quiet", "--no-trunc").stdout.split()
        if names:
            self.run("image", "rm", "--force", *set(names))


class Skopeo:
    """skopeo of a root. What it has copied is held against its digests."""

    def __init__(self, case, port, root):
        self.case, self.root, self.port = case, root, port
        self.folder = case.folder(f"skopeo-{port}") / "copied"

    def pull(self, image):
        self.root.run("skopeo", "--insecure-policy", "copy", "-q", "--preserve-digests", "--src-tls-verify=false",
                      f"docker://127.0.0.1:{self.port}/{image.name}", f"dir:{self.folder}")

    def verify(self, image, files):
        blobs = [path for path in self.folder.iterdir() if len(path.name) == 64]
        assert {f"sha256:{path.name}" for path in blobs} == set(image.blobs), blobs
        for path in [*blobs, self.folder / "manifest.json"]:
            digest = images.sha256(path.read_bytes())
            assert digest in (f"sha256:{path.name}", *image.manifests), f"{path} is {digest}"

    def wipe(self):
        shutil.rmtree(self.folder)


class Podman(Skopeo):
    """podman of a root."""

    def __init__(self, case, port, root):
        super().__init__(case, port, root)
        home = case.folder(f"podman-{port}")
        self.environment = podman_home(home, "vfs")
        self.storage, self.policy = home / "storage", home / "policy.json"

    def run(self, *arguments):
        return self.root.run("podman", *arguments, environment=self.environment).stdout

    def pull(self, image):
        self.run("pull", "-q", "--tls-verify=false", "--signature-policy", str(self.policy),
                 f"127.0.0.1:{self.port}/{image.name}")

    def verify(self, image, files):
        digests = self.run("image", "inspect", "--format", "{{.Digest}}", f"127.0.0.1:{self.port}/{image.name}").split()
        assert digests[-1:] and digests[-1] in (image.digest, *image.manifests), digests
        assert clients.in_some_layer(self.storage / "vfs/dir", files), "not the files of the image"

    def wipe(self):
        self.run("rmi", "--all", "--force")


def in_all_ways(case, make, *programs):
    """From a registry with all bad habits at once, as test_habits does with the clients of this machine."""
    for root in later.roots(case, *programs):
        case.say(f"Debian {root.name}")
        client = pull_in_all_ways(case, lambda case, port: make(case, port, root))
        if hasattr(client, "daemon"):
            later.stop(client)


def test_bad_habits_and_docker(case):
    in_all_ways(case, lambda case, port, root: DockerByAddress(case, port, root, False), "dockerd", "docker")


def test_bad_habits_and_docker_with_containerds_store(case):
    in_all_ways(case, lambda case, port, root: DockerByAddress(case, port, root, True), "dockerd", "docker")


def test_bad_habits_and_containerd(case):
    in_all_ways(case, later.Containerd, "containerd", "ctr")


def test_bad_habits_and_podman(case):
    in_all_ways(case, Podman, "podman")


def test_bad_habits_and_skopeo(case):
    in_all_ways(case, Skopeo, "skopeo")
