"""The container image: what docker/Dockerfile's last stage makes of the program under test, built with buildah and run
as it will be. The first stage compiles, from a base image and with packages of Debian: it is what `./dev build` does.
./dev image compiles outside, and packs what is there with the last stage alone."""

import json
import os
import pathlib
import re
import shutil

from harness import case as cases
from harness import client, compose, images, origin, sluice

ROOT = pathlib.Path(__file__).resolve().parents[2]
USER = 65532


def last_stage(case):
    """A folder that buildah can build, as ./dev image makes it: the last stage of the Dockerfile, and its root folder."""
    context = case.folder("context")
    case.run(ROOT / "docker/context.sh", sluice.binary(), context)
    stages = re.split(r"^(?=FROM )", (ROOT / "docker/Dockerfile").read_text(), flags=re.M)
    assert len(stages) == 3 and "./dev build release sluice" in stages[1] and "docker/rootfs.sh" in stages[1]
    assert (context / "Dockerfile").read_text() == stages[2].replace("--from=build ", "")
    return context


class Buildah:
    def __init__(self, case):
        if not shutil.which("buildah"):
            case.skip("buildah is not installed")
        if os.geteuid() != 0:
            case.skip("only root can mount an image")
        self.case = case
        self.options = ["--root", case.folder("containers"), "--runroot", case.folder("containers-run"),
                        "--storage-driver", "vfs"]

    def __call__(self, command, *arguments):
        return self.case.run("buildah", *self.options, command, *arguments).stdout.strip()


def test_runs_as_nobody_on_a_root_that_cannot_be_written(case):
    buildah = Buildah(case)
    buildah("bud", "--quiet", "--format", "docker", "--isolation", "chroot", "--tag", "sluice", last_stage(case))
    described = json.loads(buildah("inspect", "--type", "image", "sluice"))
    config = described["Docker"]["config"]
    assert config["User"] == f"{USER}:{USER}" and config["Entrypoint"] == ["/usr/bin/sluice"]
    assert config["Healthcheck"]["Test"] == ["CMD", "/usr/bin/sluice", "health", "--quiet"]
    assert config["Labels"]["org.opencontainers.image.title"] == "sluice"
    assert "/var/lib/sluice" in config["Volumes"] and set(config["ExposedPorts"]) == {"5000/tcp", "5001/tcp"}

    container = buildah("from", "sluice")
    root = pathlib.Path(buildah("mount", container))
    case.defer(lambda: buildah("umount", container))
    size = sum(path.lstat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    case.say(f"{size / 1e6:.1f} MB, {sum(1 for path in root.rglob('*') if path.is_file())} files")
    assert size < 60e6, f"{size} bytes"
    assert not list(root.rglob("sh")) and not list(root.rglob("busybox")), "there is a shell in it"
    data = root / "var/lib/sluice"
    assert data.stat().st_uid == USER
    run(case, root, config)


def tree(root):
    """{path: bytes} of the files of an image's root folder, but for the program."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*")
            if path.is_file() and path.name != "sluice"}


def test_libraries_are_found_without_running_anything(case):
    """What cannot run here (a program for another machine) gets the same libraries as if it could."""
    case.run(ROOT / "docker/rootfs.sh", sluice.binary(), case.tmp / "by-running")
    if not shutil.which("llvm-strip-19"):
        case.skip("llvm-19 is not installed")
    case.run(ROOT / "docker/rootfs.sh", sluice.binary(), case.tmp / "by-reading", "/")
    expected, found = tree(case.tmp / "by-running"), tree(case.tmp / "by-reading")
    assert len([path for path in expected if ".so" in path]) > 5 and set(expected) == set(found), set(expected) ^ set(found)
    assert expected == found, [path for path in expected if expected[path] != found[path]]
    missing = case.run(ROOT / "docker/rootfs.sh", sluice.binary(), case.tmp / "none", case.folder("empty"), check=False)
    assert missing.returncode != 0 and "which is not in" in missing.stdout, missing.stdout


def test_arm64(case):
    """What ./dev image arm64 has compiled on this machine serves, in an emulator."""
    built, emulator = ROOT / "build/arm64/image", shutil.which("qemu-aarch64-static")
    if not (built / "rootfs/usr/bin/sluice").exists():
        case.skip("./dev image arm64 has not been run: it compiles everything once more")
    if (built / "rootfs/usr/bin/sluice").stat().st_mtime < pathlib.Path(sluice.binary()).stat().st_mtime:
        case.skip("build/arm64/image is older than the program under test: run ./dev image arm64")
    if not emulator:
        case.skip("qemu-user-static is not installed")
    root, registry, image = built / "rootfs", origin.Registry(case), case.images["test/oci:1"]
    program = [emulator, "-L", root, root / "usr/bin/sluice"]
    case.say(case.run(*program, "--version", environment={}).stdout.strip())
    port, admin = case.port(), case.port()
    process = case.spawn("arm64", [
        *program, "serve", "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", "--data", case.folder("data"),
        "--upstream", registry.url], {})
    process.wait_for_port(port, 60)
    for _ in range(2):
        answer = client.request(port, f"/v2/{image.repository}/blobs/{image.layers[0]}")
        assert answer.status == 200 and images.sha256(answer.body) == image.layers[0]
    health = case.run(*program, "health", "--admin", f"127.0.0.1:{admin}", environment={}).stdout
    assert health.startswith("ready"), health
    assert process.stop() == 0
    assert list((case.tmp / "data").rglob(image.layers[0].partition(":")[2])), "nothing was stored"
    buildah = Buildah(case)
    buildah("bud", "--quiet", "--platform", "linux/arm64", "--tag", "sluice", built)
    assert json.loads(buildah("inspect", "--type", "image", "sluice"))["OCIv1"]["architecture"] == "arm64"


def run(case, root, config):
    """As a container would, with the user, the environment and the command of the image; all but the volume is root's
    and so read-only for it."""
    registry = origin.Registry(case)
    image = case.images["test/oci:1"]
    port, admin = case.port(), case.port()
    environment = dict(line.split("=", 1) for line in config["Env"])
    assert environment["SLUICE_ADMIN_LISTEN"] == "127.0.0.1:5001", "the admin API is open to the network"
    environment |= {"SLUICE_SERVER_LISTEN": f"127.0.0.1:{port}", "SLUICE_ADMIN_LISTEN": f"127.0.0.1:{admin}"}
    inside = ["chroot", f"--userspec={USER}:{USER}", root, *config["Entrypoint"]]
    writable = [path for path in root.rglob("*") if not path.is_symlink() and path.stat().st_uid == USER]
    assert writable == [root / "var/lib/sluice"], writable
    process = case.spawn("image", [*inside, *config["Cmd"], "--upstream", registry.url], environment)
    health = [str(word) for word in [*inside, *config["Healthcheck"]["Test"][2:]]]
    cases.poll("the health check of the image passes", lambda: case.run(
        *health, check=False, environment=environment).returncode == 0, interval=0.2)
    assert client.request(port, f"/v2/{image.repository}/blobs/{image.layers[0]}").status == 200
    assert process.stop() == 0
    assert case.run(*health, check=False, environment=environment).returncode == 1
    assert list((root / "var/lib/sluice").rglob(image.layers[0].partition(":")[2])), "nothing was stored on the volume"


def test_compose_names_what_is_there(case):
    """Its files exist, its settings are the program's, and docker compose reads it."""
    text = (ROOT / "docker/compose.yml").read_text()
    for path in re.findall(r"- (\./[\w/]+):", text):
        assert (ROOT / "docker" / path).exists(), path
    names = dict.fromkeys(re.findall(r"^      (SLUICE_\w+): ", text, re.M), "")
    assert "SLUICE_ADMIN_LISTEN" in names
    environment = {"SLUICE_ADMIN_LISTEN": ":5001", "SLUICE_ADMIN_HOSTS": "sluice", "SLUICE_STORE_MAX_SIZE": "90%", "SLUICE_DESCRIPTORS_CACHE": "redis",
                   "SLUICE_REDIS_ADDRESSES": "redis:6379"}
    assert set(environment) == set(names), set(environment) ^ set(names)
    said = case.run(sluice.binary(), "check-config", environment=environment).stdout
    assert "max_size: 90%" in said and 'addresses: ["redis:6379"]' in said, said
    program = compose.plugin(case)
    for file in ("docker/compose.yml", "docker/fleet/compose.yml"):
        case.run(*program, "-f", ROOT / file, "--profile", "*", "config", "--quiet",
                 environment={"PATH": os.environ["PATH"], "HOME": str(case.tmp)})
