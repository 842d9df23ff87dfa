"""DELETE takes out of the cache what upstream keeps."""

import json
import threading

import test_redis
from harness import case as cases
from harness import faults, images, origin, sluice

ENABLED = "store:\n  delete:\n    enabled: true\n"


def start(case, config=ENABLED, **options):
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    return proxy, sluice.Sluice(case, proxy.url, config=config, **options)


def delete(cache, path):
    return cache.get(path, method="DELETE")


def settled(cache):
    """Who reads has the last byte a moment before the file has its name."""
    cases.poll("all downloads are over", lambda: cache.metrics()["sluice_fills_in_flight"] == 0, 10)


def pull(cache, image):
    manifest = cache.get(f"/v2/{image.repository}/manifests/{image.tag}", {"Accept": images.ACCEPT})
    assert manifest.status == 200 and images.sha256(manifest.body) == image.digest
    for digest in image.blobs:
        answer = cache.blob(image.repository, digest)
        assert answer.status == 200 and images.sha256(answer.body) == digest
    settled(cache)


def test_one_repository_alone(case):
    """test/oci and team/private are the same image: what goes from one stays with the other."""
    one, other = case.images["test/oci:1"], case.images["team/private:1"]
    proxy, cache = start(case)
    pull(cache, one)
    pull(cache, other)
    layer = one.layers[0]
    assert cache.keeps(layer)

    answer = delete(cache, f"/v2/{one.repository}/blobs/{layer}")
    assert answer.status == 202 and answer.body == b"", answer
    assert cache.keeps(layer), "the other repository's blob is gone"
    asked = proxy.count(match=layer)
    assert cache.blob(other.repository, layer).status == 200
    assert proxy.count(match=layer) == asked, "the other repository had to ask upstream"
    # Who asks for it here is told what upstream says.
    assert cache.blob(one.repository, layer).status == 200
    assert proxy.count(match=layer) == asked + 1

    for image in (one, other):
        assert delete(cache, f"/v2/{image.repository}/blobs/{layer}").status == 202
    assert not cache.keeps(layer), "nobody has it, and it is still there"
    again = delete(cache, f"/v2/{one.repository}/blobs/{layer}")
    assert again.status == 404 and again.codes() == ["BLOB_UNKNOWN"], again
    assert {request.method for request in proxy.seen()} <= {"GET", "HEAD"}, "upstream was told"
    pull(cache, one)


def test_manifest_by_tag_and_by_digest(case):
    image = case.images["test/oci:1"]
    proxy, cache = start(case)
    pull(cache, image)
    by_tag = f"/v2/{image.repository}/manifests/{image.tag}"
    by_digest = f"/v2/{image.repository}/manifests/{image.digest}"

    assert delete(cache, by_tag).status == 202
    assert cache.keeps(image.digest), "a tag went, and took the manifest along"
    asked = proxy.count(match="manifests/")
    assert cache.get(by_digest, {"Accept": images.ACCEPT}).status == 200
    assert proxy.count(match="manifests/") == asked
    assert cache.get(by_tag, {"Accept": images.ACCEPT}).status == 200
    assert proxy.count(match="manifests/") > asked, "the tag was believed after it was taken out"

    assert delete(cache, by_digest).status == 202
    assert not cache.keeps(image.digest)
    for path in (by_digest, by_tag):
        answer = delete(cache, path)
        assert answer.status == 404 and answer.codes() == ["MANIFEST_UNKNOWN"], answer
    answer = delete(cache, f"/v2/{image.repository}/manifests/sha256:abc")
    assert answer.status == 400 and answer.codes() == ["DIGEST_INVALID"], answer
    # It is not forgotten only until the next start.
    cache.restart()
    asked = proxy.count(match="manifests/")
    assert cache.get(by_tag, {"Accept": images.ACCEPT}).status == 200
    assert proxy.count(match="manifests/") > asked


def test_during_the_download(case):
    """Who reads gets to the end; nobody is let in by what was asked before, and the file does not stay."""
    image = case.images["test/medium:1"]
    digest, size = image.layers[0], images.MEDIUM_BYTES
    proxy, cache = start(case)
    proxy.throttle(24e6)
    reader = cache.download(image.repository, digest)
    reader.read_exactly(1 << 20)
    assert delete(cache, f"/v2/{image.repository}/blobs/{digest}").status == 202
    proxy.throttle(None)
    assert reader.drain() == digest and reader.complete, f"{reader.received} of {size} bytes came"
    settled(cache)
    assert not cache.keeps(digest) and not cache.incoming(), cache.incoming()

    asked = proxy.count(match=digest)
    head = cache.get(f"/v2/{image.repository}/blobs/{digest}", method="HEAD")
    assert head.status == 200
    assert proxy.count(match=digest) > asked, "the download brought the membership back"


def test_with_redis(case):
    """Redis forgets too; and where it cannot be told, nothing is taken out."""
    image = case.images["test/oci:1"]
    layer = image.layers[0]
    redis = test_redis.Redis(case)
    shared = f"descriptors: {{ cache: redis }}\nredis: {{ addresses: ['127.0.0.1:{redis.port}'] }}\n"
    proxy, cache = start(case, ENABLED + shared)
    pull(cache, image)
    key = f"repository::{image.repository}::blobs::{layer}"
    assert key in redis.keys(), redis.keys()
    assert delete(cache, f"/v2/{image.repository}/blobs/{layer}").status == 202
    assert key not in redis.keys()
    asked = proxy.count(match=layer)
    assert cache.blob(image.repository, layer).status == 200
    assert proxy.count(match=layer) > asked

    settled(cache)
    redis.process.kill()
    answer = delete(cache, f"/v2/{image.repository}/blobs/{layer}")
    assert answer.status >= 500, answer
    assert cache.keeps(layer)


def test_many_at_once(case):
    """Pulls and removals of the same image, side by side: no wrong byte, and in the end it is as upstream says."""
    image = case.images["test/oci:1"]
    _, cache = start(case)
    failures = []

    def puller():
        try:
            for _ in range(15):
                pull(cache, image)
        except Exception as error:  # told on the main thread
            failures.append(error)

    def remover():
        for _ in range(30):
            for digest in image.blobs:
                status = delete(cache, f"/v2/{image.repository}/blobs/{digest}").status
                if status not in (202, 404):
                    failures.append(status)
            delete(cache, f"/v2/{image.repository}/manifests/{image.digest}")

    threads = [threading.Thread(target=work) for work in (puller, puller, remover)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    settled(cache)
    for path in [f"/v2/{image.repository}/blobs/{digest}" for digest in image.blobs] + [
            f"/v2/{image.repository}/manifests/{image.digest}"]:
        delete(cache, path)
    assert not cache.kept(), f"left behind: {sorted(cache.kept())}"
    assert json.loads(cache.admin("/api/v1").body)["store"]["blobs"] == 0
