"""From distribution's registry to sluice: its config.yml as it is, and what it has cached."""

import json

from harness import case as cases
from harness import client, faults, images, origin, sluice

PULL = ("skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", "--preserve-digests")


def old_cache(case, proxy, name):
    """A docker-registry that was a cache of `proxy`, has that image, and is stopped."""
    image = case.images[name]
    old = origin.Registry(case, storage=case.folder("old"), writable=True, proxy_of=proxy.url)
    case.run(*PULL, f"docker://127.0.0.1:{old.port}/{image.name}", f"dir:{case.tmp / 'first'}")
    blobs = [old.blob_file(digest) for digest in (*image.blobs, *image.manifests)]
    # It stores what it has passed on a moment later.
    cases.poll("the old cache has everything", lambda: all(path.exists() for path in blobs))
    cases.poll("and linked it", lambda: len(list(old.storage.rglob("link"))) >= len(blobs) + 1)
    old.stop()
    return old


def run_import(case, *arguments, check=True):
    done = case.run(sluice.binary(), "import", "--json", "-q", *arguments, environment=sluice.Sluice.environment(),
                    check=check)
    return done.returncode, json.JSONDecoder().raw_decode(done.stdout)[0]


def test_with_its_file_and_its_store(case):
    image = case.images["test/layers:1"]
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    old = old_cache(case, proxy, "test/layers:1")
    before = {path: path.stat() for path in old.storage.rglob("*") if path.is_file()}

    arguments = ["--config", str(old.config), str(old.storage)]
    assert run_import(case, "--dry-run", *arguments)[1]["linked"] == 0
    status, said = run_import(case, *arguments)
    assert status == 0 and said["tags"] == 1 and said["repositories"] == 1, said
    assert said["linked"] == len(image.blobs) and said["bytes"] >= sum(image.blobs.values()), said
    for path, was in before.items():
        now = path.stat()
        assert (now.st_size, now.st_mtime_ns, now.st_mode) == (was.st_size, was.st_mtime_ns, was.st_mode), path
    again = run_import(case, *arguments)[1]
    assert again["linked"] == again["copied"] == again["memberships"] == again["tags"] == 0, again
    assert again["present"] == said["blobs"], again

    registry.stop()
    proxy.refuse()
    admin = case.port()
    case.spawn("sluice", [sluice.binary(), "serve", "--config", str(old.config), "--admin", f"127.0.0.1:{admin}"],
               sluice.Sluice.environment()).wait_for_port(old.port)
    case.run(*PULL, f"docker://127.0.0.1:{old.port}/{image.name}", f"dir:{case.tmp / 'second'}")
    answer = client.request(old.port, f"/v2/{image.repository}/manifests/{image.tag}", {"Accept": images.ACCEPT})
    assert answer.status == 200 and "warning" in answer.headers, answer.headers
    assert (old.storage / "sluice" / "blobs").is_dir()
    assert not (old.storage / "blobs").exists(), "two formats in one directory"


def test_damage_and_room(case):
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    old = old_cache(case, proxy, "test/layers:1")
    image = case.images["test/layers:1"]
    broken = old.blob_file(image.layers[1])
    data = bytearray(broken.read_bytes())
    data[100] ^= 1
    broken.write_bytes(bytes(data))

    small = case.file("small.yml", "store:\n  max_size: 16MiB\n")
    status, said = run_import(case, "--config", small, "--data", case.tmp / "small", old.storage, check=False)
    assert status == 1 and [bad["what"] for bad in said["bad"]] == [image.layers[1]], said
    assert not said["stopped"] and said["linked"] == len(image.blobs) - 1, said
    # Upstream still gives the one that was damaged, once.
    cache = sluice.Sluice(case, proxy.url)
    cache.stop()
    status, _ = run_import(case, "--data", cache.data, old.storage, check=False)
    assert status == 1
    cache.start()
    begin = proxy.count("GET", "/blobs/")
    case.run(*PULL, f"docker://127.0.0.1:{cache.port}/{image.name}", f"dir:{case.tmp / 'mended'}")
    assert proxy.count("GET", "/blobs/") == begin + 1
    done = case.run(sluice.binary(), "import", "--data", cache.data, old.storage, check=False,
                    environment=sluice.Sluice.environment())
    assert done.returncode == 1 and "in use" in done.stdout, done.stdout
