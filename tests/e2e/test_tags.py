"""Tags: how often upstream is asked about one, and the lists: tags, the catalog, referrers."""

import json
import threading
import time

from harness import client, faults, images, origin, sluice
from test_upstreams import config

# The empty configuration of the image-spec, as an artifact has it.
EMPTY = b"{}"


def push(registry, repository, reference, body, media_type):
    """Puts a manifest into a writable registry, and the blobs that it names before that."""
    answer = client.request(registry.port, "", raw=(
        f"PUT /v2/{repository}/manifests/{reference} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body)
    assert answer.status == 201, f"{answer.status} {answer.body}"
    return images.sha256(body)


def push_blob(registry, repository, data):
    digest = images.sha256(data)
    started = registry.get(f"/v2/{repository}/blobs/uploads/", method="POST")
    assert started.status == 202, started
    path = started.headers["location"].removeprefix(registry.url)
    answer = client.request(registry.port, "", raw=(
        f"PUT {path}&digest={digest} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {len(data)}\r\n\r\n").encode() + data)
    assert answer.status == 201, f"{answer.status} {answer.body}"
    return {"mediaType": "application/octet-stream", "digest": digest, "size": len(data)}


def image(registry, repository, tag, text, subject=None):
    """An image with nothing in it but `text`, so that each has a digest of its own. `subject`: what it refers to."""
    config_blob = {**push_blob(registry, repository, EMPTY), "mediaType": images.OCI_CONFIG}
    layer = {**push_blob(registry, repository, text.encode()), "mediaType": images.OCI_LAYER}
    document = {"schemaVersion": 2, "mediaType": images.OCI_MANIFEST, "config": config_blob, "layers": [layer]}
    if subject:
        document["subject"] = {"mediaType": images.OCI_MANIFEST, "digest": subject, "size": 100}
    return push(registry, repository, tag, json.dumps(document).encode(), images.OCI_MANIFEST)


def writable(case):
    return origin.Registry(case, storage=case.folder("storage"), writable=True)


def digest_of(cache, repository, tag):
    answer = cache.get(f"/v2/{repository}/manifests/{tag}", {"Accept": images.ACCEPT})
    assert answer.status == 200, f"{answer.status} {answer.body}"
    assert answer.headers["docker-content-digest"] == images.sha256(answer.body)
    return images.sha256(answer.body)


def test_a_thousand_pulls_cost_one_question_a_ttl(case):
    image_ = case.images["test/oci:1"]
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    cache = sluice.Sluice(case, config="tags:\n  ttl: 1s\n" + config(proxy.url))
    path = f"/v2/{image_.repository}/manifests/{image_.tag}"
    wrong, done = [], []
    started = time.monotonic()

    def pulls():
        count = 0
        # Long enough to cross some ends of the ttl.
        while count < 20 or time.monotonic() < started + 2.5:
            answer = cache.get(path, {"Accept": images.ACCEPT})
            if images.sha256(answer.body) != image_.digest:
                wrong.append(answer)
            count += 1
        done.append(count)

    clients = [threading.Thread(target=pulls) for _ in range(50)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    took = time.monotonic() - started
    assert not wrong, wrong[:3]
    heads, gets = proxy.count("HEAD", "/manifests/"), proxy.count("GET", "/manifests/")
    case.say(f"{sum(done)} pulls in {took:.1f} s: {gets} GET, {heads} HEAD")
    # A second begins when upstream has answered, so there are no more of them than seconds.
    assert gets == 1 and 1 <= heads <= took, f"{gets} GET and {heads} HEAD in {took:.1f} s"


def test_a_tag_that_moves(case):
    registry = writable(case)
    proxy = faults.FaultProxy(case, registry.port)
    cache = sluice.Sluice(case, config="tags:\n  ttl: 0s\n" + config(proxy.url))
    first = image(registry, "team/app", "latest", "one")
    assert digest_of(cache, "team/app", "latest") == first
    gets = proxy.count("GET", "/manifests/")
    assert digest_of(cache, "team/app", "latest") == first
    assert proxy.count("GET", "/manifests/") == gets, "a tag that stands still costs a HEAD"
    second = image(registry, "team/app", "latest", "two")
    assert digest_of(cache, "team/app", "latest") == second
    # By digest the old one stays.
    assert digest_of(cache, "team/app", first) == first
    proxy.refuse()
    assert digest_of(cache, "team/app", "latest") == second


def test_tags_list(case):
    registry = writable(case)
    for tag in ("v10", "V2", "latest", "v1"):
        image(registry, "team/app", tag, tag)
    proxy = faults.FaultProxy(case, registry.port)
    cache = sluice.Sluice(case, config="tags:\n  ttl: 0s\n" + config(proxy.url))
    wanted = ["latest", "v1", "v10", "V2"]

    answer = cache.get("/v2/team/app/tags/list")
    assert json.loads(answer.body) == {"name": "team/app", "tags": wanted}, answer
    assert answer.headers["content-type"] == "application/json" and "link" not in answer.headers
    seen, path = [], "/v2/team/app/tags/list?n=3"
    while path:
        page = cache.get(path)
        seen += json.loads(page.body)["tags"]
        link = page.headers.get("link", "")
        assert not link or link.endswith('>; rel="next"'), link
        path = link[1:link.index(">")] if link else ""
    assert seen == wanted, seen
    assert cache.get("/v2/team/app/tags/list?n=x").codes() == ["PAGINATION_NUMBER_INVALID"]
    assert cache.get("/v2/team/none/tags/list").codes() == ["NAME_UNKNOWN"]
    done = case.run("skopeo", "list-tags", "--tls-verify=false", f"docker://127.0.0.1:{cache.port}/team/app")
    assert json.loads(done.stdout)["Tags"] == wanted, done.stdout

    for tag in ("v1", "latest"):
        digest_of(cache, "team/app", tag)
    proxy.refuse()
    cache.restart()
    answer = cache.get("/v2/team/app/tags/list")
    assert json.loads(answer.body)["tags"] == ["latest", "v1"], answer
    assert answer.headers["warning"].startswith("110 "), answer.headers
    for tag in json.loads(answer.body)["tags"]:
        digest_of(cache, "team/app", tag)
    catalog = cache.get("/v2/_catalog")
    assert json.loads(catalog.body) == {"repositories": ["team/app"]}, catalog
    assert cache.get("/v2/team/none/tags/list").status in (502, 503)


def test_referrers_by_the_tag(case):
    """docker-registry 2.8 has no referrers API: the tag stands in."""
    registry = writable(case)
    subject = image(registry, "team/app", "v1", "subject")
    signature = image(registry, "team/app", "signature", "signature", subject)
    sbom = image(registry, "team/app", "sbom", "sbom", subject)
    descriptors = [{"mediaType": images.OCI_MANIFEST, "digest": signature, "size": 100, "artifactType": "a/signature"},
                   {"mediaType": images.OCI_MANIFEST, "digest": sbom, "size": 100, "artifactType": "a/sbom"}]
    # The image itself refers to nothing, so it is no referrer though the index names it.
    platform = {"mediaType": images.OCI_MANIFEST, "digest": subject, "size": 100}
    index = json.dumps({"schemaVersion": 2, "mediaType": images.OCI_INDEX,
                        "manifests": [*descriptors, platform]}).encode()
    push(registry, "team/app", subject.replace(":", "-"), index, images.OCI_INDEX)
    proxy = faults.FaultProxy(case, registry.port)
    cache = sluice.Sluice(case, config="tags:\n  ttl: 0s\n" + config(proxy.url))
    path = f"/v2/team/app/referrers/{subject}"

    answer = cache.get(path)
    assert answer.status == 200 and answer.headers["content-type"] == images.OCI_INDEX, answer
    assert json.loads(answer.body)["manifests"] == descriptors, answer.body
    assert "oci-filters-applied" not in answer.headers
    some = cache.get(path + "?artifactType=a/sbom")
    assert some.headers["oci-filters-applied"] == "artifactType"
    assert json.loads(some.body)["manifests"] == descriptors[1:], some.body
    assert proxy.count("GET", "/referrers/") == 1, "an API that is not there is asked for once"

    nothing = cache.get(f"/v2/team/app/referrers/{signature}")
    assert nothing.status == 200 and json.loads(nothing.body)["manifests"] == [], nothing
    assert cache.get("/v2/team/app/referrers/latest").codes() == ["DIGEST_INVALID"]

    proxy.refuse()
    cache.restart()
    stale = cache.get(path)
    assert stale.status == 200 and stale.headers["warning"].startswith("110 "), stale
    assert json.loads(stale.body)["manifests"] == descriptors, stale.body
