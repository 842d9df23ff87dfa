"""Whole images through sluice with skopeo: the bytes are the origin's, also when the origin is gone."""

import filecmp

from harness import faults, images, origin, sluice


def copy(case, port, image, folder, *options):
    """Copies an image as it is into a folder of blobs and manifests."""
    case.run("skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", "--preserve-digests", *options,
             f"docker://127.0.0.1:{port}/{image.name}", f"dir:{folder}")
    return folder


def same(expected, actual):
    names = sorted(path.name for path in expected.iterdir())
    assert names == sorted(path.name for path in actual.iterdir()), "other files than the origin's"
    _, mismatch, errors = filecmp.cmpfiles(expected, actual, names, shallow=False)
    assert not mismatch and not errors, f"not the origin's bytes: {mismatch + errors}"


def same_answers(image, registry, cache):
    """Every manifest and blob one by one, with the headers that clients rely on."""
    headers = {"Accept": images.ACCEPT}
    paths = [f"/v2/{image.repository}/manifests/{ref}" for ref in (image.tag, *image.manifests)]
    paths += [f"/v2/{image.repository}/blobs/{digest}" for digest, size in image.blobs.items() if size < 2 << 20]
    for path in paths:
        wanted, got = registry.get(path, headers), cache.get(path, headers)
        assert (got.status, got.body) == (wanted.status, wanted.body), f"{path}: {got.status}, {len(got.body)} bytes"
        names = ["docker-content-digest", "content-length"]
        if "/manifests/" in path:
            names.append("content-type")
        for name in names:
            assert got.headers.get(name) == wanted.headers[name], f"{path}: {name}: {got.headers.get(name)}"
        head = cache.get(path, headers, method="HEAD")
        assert head.status == 200 and head.headers["content-length"] == str(len(wanted.body)), f"HEAD {path}: {head}"


def three_copies(case, name, *options):
    image = case.images[name]
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    cache = sluice.Sluice(case, proxy.url)

    wanted = copy(case, registry.port, image, case.tmp / "origin", *options)
    same(wanted, copy(case, cache.port, image, case.tmp / "cold", *options))
    same_answers(image, registry, cache)
    for digest in image.blobs:
        assert proxy.count("GET", digest) == 1, f"{proxy.count('GET', digest)} downloads of {digest}"
        assert proxy.bytes_sent(digest) == image.blobs[digest]
    asked = proxy.count()

    registry.stop()
    proxy.refuse()
    same(wanted, copy(case, cache.port, image, case.tmp / "warm", *options))
    cache.restart()
    same(wanted, copy(case, cache.port, image, case.tmp / "restarted", *options))
    assert proxy.count() == asked
    case.say(f"{len(image.manifests)} manifests, {len(image.blobs)} blobs, {sum(image.blobs.values())} bytes")


def test_docker_schema_2(case):
    three_copies(case, "test/docker:1")


def test_oci_image(case):
    three_copies(case, "test/oci:1")


def test_zstd_layers(case):
    three_copies(case, "test/zstd:1")


def test_root_file_system(case):
    three_copies(case, "test/rootfs:1")


def test_oci_index_of_two_platforms(case):
    three_copies(case, "test/multi:1", "--all")


def test_docker_manifest_list(case):
    three_copies(case, "test/multi-docker:1", "--all")


def test_layer_of_300_megabytes(case):
    three_copies(case, "test/big:1")
