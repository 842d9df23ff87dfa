"""The images of the tests, made here without any network, pushed with skopeo, kept for the tests of one build.

They live in the storage folder of a docker-registry below the fixtures folder. Tests start registries of their own on
it, read-only. A lock lets one test make them while the others wait; a stamp of this file makes them anew when it changes.
"""

import dataclasses
import fcntl
import gzip
import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile

from harness import origin

BIG_BYTES = 300 * 1000 * 1000
MEDIUM_BYTES = 48 * 1024 * 1024
ROOTFS_BYTES = 40 * 1024 * 1024
LAYER_BYTES = 1_500_000

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPT = ", ".join([OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST])


@dataclasses.dataclass
class Image:
    """An image as the origin has it. `blobs` and `manifests` map digests to sizes; `layers` are in order."""

    repository: str
    tag: str
    digest: str
    media_type: str
    manifests: dict
    blobs: dict
    layers: list
    config: str  # empty for an index

    @property
    def name(self):
        return f"{self.repository}:{self.tag}"


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Layout:
    """An OCI image layout on disk, written by hand."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.blobs = self.folder / "blobs" / "sha256"
        self.blobs.mkdir(parents=True)
        (self.folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self.entries = []

    def add(self, media_type, data):
        digest = sha256(data)
        (self.blobs / digest[7:]).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def add_random(self, media_type, size):
        """A layer that does not compress."""
        hasher, partial = hashlib.sha256(), self.blobs / "partial"
        with open(partial, "wb") as file:
            left = size
            while left:
                piece = os.urandom(min(left, 4 << 20))
                hasher.update(piece)
                file.write(piece)
                left -= len(piece)
        partial.rename(self.blobs / hasher.hexdigest())
        return {"mediaType": media_type, "digest": "sha256:" + hasher.hexdigest(), "size": size}

    def add_json(self, media_type, value):
        return self.add(media_type, json.dumps(value, separators=(",", ":")).encode())

    def manifest(self, layers, diff_ids, architecture="amd64"):
        config = self.add_json(OCI_CONFIG, {
            "architecture": architecture, "os": "linux", "config": {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}, "created": "2024-01-01T00:00:00Z",
            "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "e2e"} for _ in layers]})
        return self.add_json(OCI_MANIFEST, {
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers})

    def tag(self, descriptor, name):
        self.entries.append({**descriptor, "annotations": {"org.opencontainers.image.ref.name": name}})
        (self.folder / "index.json").write_text(json.dumps(
            {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": self.entries}))


def tar(files):
    """A tar archive; values are contents, or a link's target as str."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.mode = 0o755
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zstd(data):
    return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout


def busybox():
    data = pathlib.Path(shutil.which("busybox", path="/bin:/usr/bin")).read_bytes()
    return {"bin/busybox": data, "bin/sh": "busybox", "bin/ls": "busybox", "bin/cat": "busybox"}


def root_file_system():
    """A few dozen megabytes of this machine's own programs and libraries, as a distribution's base layer has them."""
    files, size = {"etc/os-release": pathlib.Path("/etc/os-release").read_bytes()}, 0
    for path in sorted(pathlib.Path("/usr/bin").iterdir()):
        if size > ROOTFS_BYTES:
            break
        if path.is_symlink():
            files["usr/bin/" + path.name] = os.readlink(path)
        elif path.is_file() and path.stat().st_size < 8 << 20:
            files["usr/bin/" + path.name] = path.read_bytes()
            size += path.stat().st_size
    return files


def _make_images(folder):
    """Returns [(layout, tag, repository:tag, skopeo options)]."""
    layout = Layout(folder)

    def gz(files):
        plain = tar(files)
        return layout.add(OCI_LAYER + "+gzip", gzip.compress(plain, 1, mtime=0)), sha256(plain)

    def zst(files):
        plain = tar(files)
        return layout.add(OCI_LAYER + "+zstd", zstd(plain)), sha256(plain)

    def image(*layers, architecture="amd64"):
        return layout.manifest([layer for layer, _ in layers], [diff for _, diff in layers], architecture)

    base = gz(busybox())
    layout.tag(image(base), "busybox")
    layout.tag(image(base, gz({"etc/motd": b"hello\n"}), gz({"var/empty": b""})), "oci")
    layout.tag(image(zst(busybox()), zst({"etc/zstd": os.urandom(200_000)})), "zstd")
    layout.tag(image(gz(root_file_system())), "rootfs")

    # Small ones that do not compress, none of them in another image.
    layout.tag(image(*(gz({f"srv/{name}": os.urandom(LAYER_BYTES)}) for name in ("one", "two", "three"))), "layers")

    platforms = []
    for architecture in ("amd64", "arm64"):
        manifest = image(base, gz({"etc/arch": architecture.encode()}), architecture=architecture)
        platforms.append({**manifest, "platform": {"architecture": architecture, "os": "linux"}})
    layout.tag(layout.add_json(OCI_INDEX, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": platforms}), "multi")

    # Uncompressed, so that nobody who copies it is tempted to squeeze it.
    for name, size in (("big", BIG_BYTES), ("medium", MEDIUM_BYTES)):
        random = layout.add_random(OCI_LAYER, size)
        layout.tag(layout.manifest([random], [random["digest"]]), name)

    as_is = ["--preserve-digests"]
    docker = ["--format", "v2s2"]
    return [
        ("busybox", "library/busybox:latest", docker),
        ("oci", "test/oci:1", as_is),
        ("oci", "test/docker:1", docker),
        ("layers", "test/layers:1", as_is),
        ("zstd", "test/zstd:1", as_is),
        ("rootfs", "test/rootfs:1", as_is),
        ("multi", "test/multi:1", [*as_is, "--all"]),
        ("multi", "test/multi-docker:1", [*docker, "--all"]),
        ("big", "test/big:1", as_is),
        ("medium", "test/medium:1", as_is),
        ("oci", "team/private:1", as_is),
    ]


def _describe(registry, repository, tag):
    """Reads an image back from the origin, following an index."""
    response = registry.get(f"/v2/{repository}/manifests/{tag}", {"Accept": ACCEPT})
    assert response.status == 200, (repository, tag, response.status, response.body)
    image = Image(repository, tag, sha256(response.body), response.headers["content-type"], {}, {}, [], "")
    pending = [response.body]
    while pending:
        body = pending.pop()
        image.manifests[sha256(body)] = len(body)
        content = json.loads(body)
        for child in content.get("manifests", []):
            pending.append(registry.get(f"/v2/{repository}/manifests/{child['digest']}", {"Accept": ACCEPT}).body)
        if "config" in content:
            image.config = content["config"]["digest"] if image.digest == sha256(body) else ""
            image.layers += [layer["digest"] for layer in content["layers"]]
            for blob in [content["config"], *content["layers"]]:
                image.blobs[blob["digest"]] = blob["size"]
    return image


def _build(case, storage):
    work = case.folder("layout")
    jobs = _make_images(work / "oci")
    registry = origin.Registry(case, storage=storage, writable=True)
    images = {}
    for source, target, options in jobs:
        case.run("skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", *options,
                 f"oci:{work / 'oci'}:{source}", f"docker://127.0.0.1:{registry.port}/{target}")
        repository, tag = target.split(":")
        images[target] = dataclasses.asdict(_describe(registry, repository, tag))
    registry.stop()
    shutil.rmtree(work)
    return images


def stamp():
    """Changes when the images would."""
    return sha256(pathlib.Path(__file__).read_bytes() + pathlib.Path(origin.__file__).read_bytes())


def ready(case):
    """Makes the images if need be. Returns {name: Image}."""
    case.fixtures.mkdir(parents=True, exist_ok=True)
    listing, storage = case.fixtures / "images.json", case.fixtures / "registry"
    with open(case.fixtures / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            saved = json.loads(listing.read_text())
        except (OSError, ValueError):
            saved = {}
        if saved.get("stamp") != stamp():
            listing.unlink(missing_ok=True)
            shutil.rmtree(storage, ignore_errors=True)
            storage.mkdir()
            saved = {"stamp": stamp(), "images": _build(case, storage)}
            listing.write_text(json.dumps(saved, indent=1))
    return {name: Image(**image) for name, image in saved["images"].items()}
