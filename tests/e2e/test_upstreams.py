"""Upstreams behind a token server, and behind TLS with an authority of their own."""

from harness import faults, images, origin, sluice
from test_skopeo import copy, same


def config(url, **settings):
    """A configuration file with one upstream, which is the default one."""
    lines = ["default_upstream: docker.io", "upstreams:", "  docker.io:", f"    url: {url}"]
    return "\n".join(lines + [f"    {key}: {value}" for key, value in settings.items()]) + "\n"


def test_token_server(case):
    image = case.images["team/private:1"]
    tokens = origin.TokenServer(case, "alice", "correct-horse")
    protected = origin.Registry(case, token=tokens)
    assert protected.get("/v2/").status == 401
    proxy = faults.FaultProxy(case, protected.port)
    # Its token server has another port, and addresses are the same host only with the same port.
    cache = sluice.Sluice(case, config=config(
        proxy.url, username="alice", password="correct-horse", realm_hosts="[127.0.0.1]"))

    plain = origin.Registry(case)
    wanted = copy(case, plain.port, image, case.tmp / "origin")
    same(wanted, copy(case, cache.port, image, case.tmp / "cold"))
    granted = [scopes for login, scopes in tokens.requests if login]
    assert granted == [["repository:team/private:pull"]], f"one token should do for a pull: {granted}"
    assert all("basic" not in r.headers.get("authorization", "").lower() for r in proxy.seen()), \
        "the password went to the registry, not only to its token server"
    assert "correct-horse" not in cache.process.log()

    protected.stop()
    tokens.stop()
    same(wanted, copy(case, cache.port, image, case.tmp / "warm"))


def test_named_by_path_and_by_namespace(case):
    image, busybox = case.images["test/oci:1"], case.images["library/busybox:latest"]
    registry = origin.Registry(case)
    hub, other = faults.FaultProxy(case, registry.port), faults.FaultProxy(case, registry.port)
    cache = sluice.Sluice(case, config=config(hub.url) + f"  registry.test:\n    url: {other.url}\n")
    headers = {"Accept": images.ACCEPT}

    for path in (f"/v2/registry.test/{image.repository}/manifests/{image.tag}",
                 f"/v2/{image.repository}/manifests/{image.tag}?ns=registry.test"):
        answer = cache.get(path, headers)
        assert answer.status == 200 and images.sha256(answer.body) == image.digest, f"{path}: {answer}"
    assert answer.headers["oci-namespace"] == "registry.test", answer.headers
    assert hub.count() == 0 and other.count("GET", "/manifests/") == 1, (hub.seen(), other.seen())

    # Docker Hub's images of one word live under library/.
    for path in ("/v2/busybox", "/v2/docker.io/busybox", "/v2/docker.io/library/busybox"):
        answer = cache.get(f"{path}/manifests/latest", headers)
        assert answer.status == 200 and images.sha256(answer.body) == busybox.digest, f"{path}: {answer}"
    assert hub.count("GET", "/manifests/") == 1 and other.count() == 1

    # What is not configured is never dialled.
    nobody = faults.FaultProxy(case, registry.port)
    answer = cache.get(f"/v2/{image.repository}/manifests/1?ns=127.0.0.1:{nobody.port}", headers)
    assert answer.status == 404 and answer.codes() == ["NAME_UNKNOWN"], answer
    assert nobody.count() == 0


def test_named_by_host_and_with_a_port(case):
    image = case.images["test/oci:1"]
    registry = origin.Registry(case)
    hub, other = faults.FaultProxy(case, registry.port), faults.FaultProxy(case, registry.port)
    text = config(hub.url) + f"  registry.test:5000:\n    url: {other.url}\n  ghcr.io:\n    url: {other.url}\n"
    cache = sluice.Sluice(case, config="server:\n  host_pattern: '*.cache.example'\n" + text)
    path = f"/v2/{image.repository}/manifests/{image.tag}"

    answer = cache.get(path, {"Accept": images.ACCEPT, "Host": f"ghcr.io.cache.example:{cache.port}"})
    assert answer.status == 200 and images.sha256(answer.body) == image.digest, answer
    assert "oci-namespace" not in answer.headers, answer.headers
    assert other.count("GET", "/manifests/") == 1 and hub.count() == 0

    for ns in ("registry.test:5000", "registry.test%3A5000", "registry.test%3a5000"):
        answer = cache.get(f"{path}?ns={ns}", {"Accept": images.ACCEPT})
        assert answer.status == 200 and answer.headers["oci-namespace"] == "registry.test:5000", answer
    assert other.count("GET", "/manifests/") == 2 and hub.count() == 0, "one name for each upstream"

    for path, headers in ((path, {"Host": "evil.test.cache.example"}), ("/v2/evil.test/app/manifests/1", {}),
                          ("/v2/app/manifests/1?ns=registry.test", {}), ("/v2/evil.test:80/app/manifests/1", {})):
        answer = cache.get(path, headers)
        assert answer.status == 404 and answer.codes() == ["NAME_UNKNOWN"], f"{path} {headers}: {answer}"
    assert hub.count() == 0


def test_two_upstreams_share_bytes_and_nothing_else(case):
    """The same image at two upstreams: each says for itself what it has, and each blob is one file."""
    image = case.images["test/oci:1"]
    registry, empty = origin.Registry(case), origin.Registry(case, storage=case.folder("empty"))
    one, two = faults.FaultProxy(case, registry.port), faults.FaultProxy(case, registry.port)
    cache = sluice.Sluice(case, config=config(one.url) + f"  two.test:\n    url: {two.url}\n"
                                                         f"  three.test:\n    url: {empty.url}\n")
    wanted = copy(case, cache.port, image, case.tmp / "from-one")
    case.run("skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", "--preserve-digests",
             f"docker://127.0.0.1:{cache.port}/two.test/{image.name}", f"dir:{case.tmp / 'from-two'}")
    same(wanted, case.tmp / "from-two")
    for digest in image.blobs:
        assert one.count("GET", digest) == 1 and two.count("GET", digest) == 0, "the bytes were here already"
        assert cache.keeps(digest)
    assert len(cache.kept()) == len(image.blobs) + len(image.manifests), cache.kept()
    assert two.count("GET", "/manifests/") + two.count("HEAD", "/manifests/") > 0, "two.test was not asked for its own"

    # What one has, another does not have for that.
    for path in (f"manifests/{image.tag}", f"manifests/{image.digest}", f"blobs/{image.layers[0]}"):
        answer = cache.get(f"/v2/three.test/{image.repository}/{path}", {"Accept": images.ACCEPT})
        assert answer.status == 404, f"{path}: {answer.status} {answer.body}"


def test_password_is_not_for_any_realm(case):
    image = case.images["team/private:1"]
    tokens = origin.TokenServer(case, "alice", "correct-horse")
    protected = origin.Registry(case, token=tokens)
    cache = sluice.Sluice(case, config=config(protected.url, username="alice", password="correct-horse"))
    answer = cache.get(f"/v2/{image.repository}/manifests/{image.tag}", {"Accept": images.ACCEPT})
    assert answer.status in (401, 403), f"{answer.status} {answer.body}"
    assert not [login for login, _ in tokens.requests if login], "a realm that nobody named got the password"


def test_wrong_password_is_passed_on(case):
    image = case.images["team/private:1"]
    tokens = origin.TokenServer(case, "alice", "correct-horse")
    protected = origin.Registry(case, token=tokens)
    cache = sluice.Sluice(case, config=config(
        protected.url, username="alice", password="wrong", realm_hosts="[127.0.0.1]"))
    answer = cache.get(f"/v2/{image.repository}/manifests/{image.tag}", {"Accept": images.ACCEPT})
    assert answer.status in (401, 403), f"{answer.status} {answer.body}"
    assert answer.codes()[0] in ("UNAUTHORIZED", "DENIED"), answer.body


def test_tls_with_its_own_authority(case):
    image = case.images["test/oci:1"]
    authority = origin.Authority(case, "ours")
    secure = origin.Registry(case, certificate=authority.sign())
    plain = origin.Registry(case)
    cache = sluice.Sluice(case, config=config(secure.url, ca_file=authority.certificate))
    same(copy(case, plain.port, image, case.tmp / "origin"), copy(case, cache.port, image, case.tmp / "cold"))

    big = case.images["test/medium:1"]
    reader = cache.download(big.repository, big.layers[0])
    assert reader.drain() == big.layers[0] and reader.complete


def test_certificate_of_a_stranger_is_refused(case):
    image = case.images["test/oci:1"]
    secure = origin.Registry(case, certificate=origin.Authority(case, "theirs").sign())
    ours = origin.Authority(case, "ours")
    cache = sluice.Sluice(case, config=config(secure.url, ca_file=ours.certificate))
    for path in (f"manifests/{image.tag}", f"blobs/{image.layers[0]}"):
        answer = cache.get(f"/v2/{image.repository}/{path}", {"Accept": images.ACCEPT})
        assert answer.status == 502 and answer.codes() == ["UNAVAILABLE"], f"{answer.status} {answer.body}"
        assert b"certificate" in answer.body.lower(), f"does not say what is wrong: {answer.body}"
