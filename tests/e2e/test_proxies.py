"""On the way out: forward proxies, certificates of ours, and all of it together."""

from harness import images, origin, sluice
from harness.tinyproxy import Tinyproxy
from test_credentials import SECRET, debugging, manifest, nothing_leaks
from test_endpoints import config
from test_skopeo import copy, same


def test_everything_together(case):
    """TLS under an authority of its own, which wants a certificate, tokens, behind a proxy that wants a password."""
    image = case.images["team/private:1"]
    plain = origin.Registry(case)
    tokens = origin.TokenServer(case, "alice", SECRET)
    authority = origin.Authority(case, "ours")
    certificate, key = authority.sign("clientAuth")
    registry = origin.Registry(case, certificate=authority.sign(), clients=authority.certificate, token=tokens)
    proxy = Tinyproxy(case, "out", "battery-staple")
    settings = {"username": "alice", "password": SECRET, "ca_file": authority.certificate, "cert_file": certificate,
                "key_file": key, "realm_hosts": "[127.0.0.1]", "proxy": proxy.url}
    # The token server speaks plain HTTP, which no https registry may send us to: it gets a place of its own.
    refused = sluice.Sluice(case, config=debugging(config(registry.url, **settings)))
    answer = manifest(refused, image)
    assert answer.status == 401 and b"over http" in answer.body, answer.body

    secure = origin.Registry(case, certificate=authority.sign(), clients=authority.certificate,
                             accounts={"alice": SECRET})
    cache = sluice.Sluice(case, config=debugging(config(secure.url, **settings)))
    same(copy(case, plain.port, image, case.tmp / "origin"), copy(case, cache.port, image, case.tmp / "through"))
    assert f"CONNECT 127.0.0.1:{secure.port} HTTP/1.1" in proxy.requests(), proxy.requests()
    nothing_leaks(case, cache, SECRET, "battery-staple", f"alice:{SECRET}", "out:battery-staple")

    without = {key: value for key, value in settings.items() if key not in ("cert_file", "key_file")}
    stranger = sluice.Sluice(case, config=debugging(config(secure.url, **without)))
    answer = manifest(stranger, image)
    assert answer.status in (502, 503) and b"certificate" in answer.body, f"{answer.status} {answer.body}"


def test_plain_http(case):
    image = case.images["test/oci:1"]
    registry = origin.Registry(case)
    proxy = Tinyproxy(case, "out", "battery-staple")
    cache = sluice.Sluice(case, config=debugging(config(registry.url, proxy=proxy.url)))
    same(copy(case, registry.port, image, case.tmp / "origin"), copy(case, cache.port, image, case.tmp / "through"))
    asked = proxy.requests()
    assert asked and all(line.startswith(("GET http://", "HEAD http://")) for line in asked), asked
    nothing_leaks(case, cache, "battery-staple", "out:battery-staple")


def test_wrong_password(case):
    image = case.images["test/oci:1"]
    registry = origin.Registry(case, certificate=origin.Authority(case, "ours").sign())
    proxy = Tinyproxy(case, "out", "battery-staple")
    cache = sluice.Sluice(case, config=debugging(config(
        registry.url, proxy=f"http://out:{SECRET}@127.0.0.1:{proxy.port}")))
    answer = manifest(cache, image)
    assert answer.status in (502, 503) and b"proxy" in answer.body, answer.body
    assert SECRET.encode() not in answer.body
    nothing_leaks(case, cache, SECRET, f"out:{SECRET}")


def test_environment(case):
    """HTTPS_PROXY and NO_PROXY, as Go's programs and curl understand them."""
    registry = origin.Registry(case)
    image = case.images["test/oci:1"]
    proxy = Tinyproxy(case)
    text = config(registry.url) + "".join(
        f"  {name}:\n    url: https://{name}\n    retries: 0\n    connect_timeout: 5s\n"
        for name in ("far.invalid", "near.invalid"))
    cache = ProxiedSluice(case, config=text, variables={
        "https_proxy": proxy.url, "HTTP_PROXY": proxy.url, "NO_PROXY": "elsewhere.test,.near.invalid,near.invalid:443"})
    # This machine is reached directly; names are looked up by the proxy, which knows neither.
    assert manifest(cache, image).status == 200
    for name in ("far.invalid", "near.invalid"):
        answer = cache.get(f"/v2/{name}/{image.repository}/manifests/1", {"Accept": images.ACCEPT})
        assert answer.status in (502, 503, 504), f"{name}: {answer.status}"
    assert proxy.requests() == ["CONNECT far.invalid:443 HTTP/1.1"], proxy.requests()


class ProxiedSluice(sluice.Sluice):
    def __init__(self, case, variables, **options):
        self.variables = variables
        super().__init__(case, **options)

    def environment(self):
        return {**super().environment(), **self.variables}
