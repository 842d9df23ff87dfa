"""access: passthrough, in front of a registry with a token server: upstream decides for each client."""

import json

from harness import case as cases
from harness import client, faults, images, origin, sluice
from test_skopeo import copy, same
from test_upstreams import config

PULL = "repository:team/private:pull"


class Setup:
    def __init__(self, case, grant_ttl="1m"):
        self.image = case.images["team/private:1"]
        self.tokens = origin.TokenServer(case, "alice", "correct-horse")
        self.registry = origin.Registry(case, token=self.tokens)
        self.proxy = faults.FaultProxy(case, self.registry.port)
        self.cache = sluice.Sluice(case, config=config(
            self.proxy.url, access="passthrough", grant_ttl=grant_ttl, retries=0, headers_timeout="5s"))
        self.paths = [f"/v2/team/private/{path}" for path in (
            f"manifests/{self.image.tag}", f"manifests/{self.image.digest}", f"blobs/{self.image.layers[0]}",
            "tags/list", f"referrers/{self.image.digest}")]

    def token(self, scope=PULL):
        """As a client gets it that logs in at the token server."""
        return "Bearer " + self.tokens.token(scope.split())

    def get(self, path, authorization=None, method="GET"):
        headers = {"Accept": images.ACCEPT, **({"Authorization": authorization} if authorization else {})}
        return self.cache.get(path, headers, method)


def test_login_works_through_the_cache(case):
    at = Setup(case)
    login = ("--src-creds", "alice:correct-horse")
    plain = origin.Registry(case)
    wanted = copy(case, plain.port, at.image, case.tmp / "origin")
    same(wanted, copy(case, at.cache.port, at.image, case.tmp / "cold", *login))
    same(wanted, copy(case, at.cache.port, at.image, case.tmp / "warm", *login))
    for digest in at.image.blobs:
        assert at.proxy.count("GET", digest) == 1, f"{at.proxy.count('GET', digest)} downloads of {digest}"

    target = f"docker://127.0.0.1:{at.cache.port}/{at.image.name}"
    for wrong in ((), ("--creds", "alice:wrong")):
        done = case.run("skopeo", "--insecure-policy", "inspect", "--tls-verify=false", *wrong, target, check=False)
        assert done.returncode != 0, done.stdout
    case.run("skopeo", "login", "--tls-verify=false", "--authfile", case.tmp / "auth.json", "-u", "alice",
             "-p", "correct-horse", f"127.0.0.1:{at.cache.port}")
    done = case.run("skopeo", "login", "--tls-verify=false", "--authfile", case.tmp / "auth.json", "-u", "alice",
                    "-p", "wrong", f"127.0.0.1:{at.cache.port}", check=False)
    assert done.returncode != 0, done.stdout
    log = at.cache.process.log()
    assert "correct-horse" not in log and "Bearer ey" not in log and "eyJ" not in log, "a login stands in the log"


def test_what_is_cached_is_for_whom_upstream_lets(case):
    at = Setup(case)
    alice, other, nothing = at.token(), at.token("repository:test/oci:pull"), at.token("")
    for path in at.paths:
        assert at.get(path, alice).status == 200, path
    assert at.cache.keeps(at.image.layers[0])
    for path in at.paths:
        for method in ("GET", "HEAD"):
            for who in (None, other, nothing, "Bearer x", "Basic eDp5", alice.lower(), alice[:-1]):
                answer = at.get(path, who, method)
                assert answer.status in (401, 403), f"{method} {path} as {who}: {answer.status}"
                if answer.status == 401:
                    challenge = answer.headers["www-authenticate"]
                    assert challenge.startswith(f'Bearer realm="{at.tokens.url}/token"'), challenge
                assert method == "HEAD" or answer.codes()[0] in ("UNAUTHORIZED", "DENIED"), answer.body
            assert at.get(path, alice, method).status == 200, f"{method} {path}"
    # A right for one repository is none for another, though it may have the same blobs.
    digest = at.image.layers[0]
    assert at.get(f"/v2/test/oci/blobs/{digest}", alice).status in (401, 403)
    assert at.get(f"/v2/test/oci/blobs/{digest}", other).status == 200
    # A HEAD that is refused is settled by a GET of one byte.
    whole = [request for request in at.proxy.seen("GET", digest) if request.headers.get("range") != "bytes=0-0"]
    assert len(whole) == 1, "the bytes are shared"
    assert json.loads(at.cache.get("/v2/_catalog").body) == {"repositories": []}

    ping = at.cache.get("/v2/")
    assert ping.status == 401 and ping.headers["www-authenticate"].startswith("Bearer realm="), ping
    assert at.get("/v2/", alice).status == 200


def test_with_upstream_out_only_who_was_checked_lately(case):
    at = Setup(case, grant_ttl="5s")
    alice, also = at.token(), at.token(PULL + " repository:team/other:pull")
    path = f"/v2/team/private/blobs/{at.image.layers[0]}"
    assert at.get(path, alice).status == 200
    at.proxy.refuse()
    assert at.get(path, alice).status == 200
    # As good a token, but nobody can say so.
    for who in (None, also, "Bearer x"):
        answer = at.get(path, who)
        assert answer.status == 503 and answer.codes() == ["UNAVAILABLE"], answer.status
        assert answer.headers["retry-after"]
    cases.poll("the grant has ended", lambda: at.get(path, alice).status == 503)
    at.proxy.accept()
    cases.poll("upstream lets her again", lambda: at.get(path, alice).status == 200)


def test_an_open_upstream_beside_it(case):
    tokens = origin.TokenServer(case, "alice", "correct-horse")
    private = faults.FaultProxy(case, origin.Registry(case, token=tokens).port)
    public = faults.FaultProxy(case, origin.Registry(case).port)
    cache = sluice.Sluice(case, config=config(public.url) + f"  private.test:\n    url: {private.url}\n"
                                                            f"    access: passthrough\n")
    image = case.images["team/private:1"]
    answer = cache.get(f"/v2/{image.repository}/manifests/{image.tag}", {"Accept": images.ACCEPT})
    assert answer.status == 200 and images.sha256(answer.body) == image.digest
    assert "authorization" not in public.seen()[0].headers
    # A login that is sent to an open upstream's path goes nowhere.
    answer = cache.get(f"/v2/{image.repository}/tags/list", {"Authorization": "Bearer mine"})
    assert answer.status == 200 and not [r for r in public.seen() if "authorization" in r.headers]
    assert cache.get(f"/v2/private.test/{image.repository}/manifests/{image.tag}").status == 401
    # Containerd's way: 401 with the challenge to the request itself.
    token = tokens.token([PULL])
    answer = client.request(cache.port, f"/v2/{image.repository}/manifests/{image.tag}?ns=private.test",
                            {"Accept": images.ACCEPT, "Authorization": "Bearer " + token}, "HEAD")
    assert answer.status == 200 and answer.headers["docker-content-digest"] == image.digest, answer
