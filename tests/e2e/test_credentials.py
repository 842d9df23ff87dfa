"""Logging in upstream: where credentials come from, whose they are, and that nobody sees them."""

import base64
import json

from harness import case as cases
from harness import images, origin, sluice
from test_endpoints import config
from test_skopeo import copy, same

SECRET = "correct-horse"


def nothing_leaks(case, cache, *secrets):
    """No secret, nor its base64, in what the program says anywhere."""
    checked = case.run(sluice.binary(), "check-config", *cache.options, environment=cache.environment()).stdout
    said = {"log": cache.process.log(), "metrics": cache.admin("/metrics").body.decode(),
            "status page": cache.admin("/").body.decode(), "check-config": checked}
    for secret in secrets:
        for form in (secret, base64.b64encode(secret.encode()).decode().rstrip("=")):
            for place, text in said.items():
                assert form not in text, f"{form} stands in the {place}:\n{text}"


def manifest(cache, image):
    return cache.get(f"/v2/{image.repository}/manifests/{image.tag}", {"Accept": images.ACCEPT})


def debugging(text):
    return text + "log: {level: debug}\n"


def test_password_file_that_changes(case):
    image = case.images["team/private:1"]
    registry = origin.Registry(case, accounts={"alice": SECRET})
    password = case.file("password", SECRET + "\n")
    cache = sluice.Sluice(case, config=debugging(config(registry.url, username="alice", password_file=password)))
    assert manifest(cache, image).status == 200
    registry.let_in({"alice": "battery-staple"})
    password.write_text("battery-staple\n")

    # A second may pass before credentials that were refused are read again.
    cases.poll("the new password is taken", lambda: cache.blob(image.repository, image.layers[0]).status == 200)
    nothing_leaks(case, cache, SECRET, "battery-staple", f"alice:{SECRET}")


def test_docker_config_and_helpers(case):
    image = case.images["team/private:1"]
    plain = origin.Registry(case)
    tokens = origin.TokenServer(case, "alice", SECRET)
    by_token = origin.Registry(case, token=tokens)
    by_password = origin.Registry(case, accounts={"bob": SECRET})
    by_helper = origin.Registry(case, accounts={"carol": SECRET})
    runs = case.tmp / "runs"
    helper = case.file("helper", f"""#!/bin/sh
read -r server
echo "$1 $server" >> {runs}
[ "$server" = 127.0.0.1:{by_helper.port} ] && echo '{{"ServerURL": "x", "Username": "carol", "Secret": "{SECRET}"}}'
""")
    helper.chmod(0o700)
    logins = case.file("config.json", json.dumps({
        "auths": {
            f"127.0.0.1:{by_token.port}": {"auth": base64.b64encode(b"000:").decode(),
                                           "identitytoken": tokens.identity_token},
            f"http://127.0.0.1:{by_password.port}/v2/": {"auth": base64.b64encode(f"bob:{SECRET}".encode()).decode()},
        },
        "credHelpers": {f"127.0.0.1:{by_helper.port}": str(helper)}}))
    text = config(by_token.url, docker_config=logins, realm_hosts="[127.0.0.1]")
    for name, registry in (("password.test", by_password), ("helper.test", by_helper)):
        text += f"  {name}:\n    url: {registry.url}\n    docker_config: {logins}\n"
    cache = sluice.Sluice(case, config=debugging(text))
    wanted = copy(case, plain.port, image, case.tmp / "origin")
    same(wanted, copy(case, cache.port, image, case.tmp / "by-token"))
    assert [login for login, _ in tokens.requests] == [tokens.identity_token], tokens.requests
    for name in ("password.test", "helper.test"):
        answer = cache.get(f"/v2/{name}/{image.repository}/manifests/{image.tag}", {"Accept": images.ACCEPT})
        assert answer.status == 200, f"{name}: {answer.status} {answer.body}"
        blob = cache.get(f"/v2/{name}/{image.repository}/blobs/{image.layers[0]}")
        assert blob.status == 200 and images.sha256(blob.body) == image.layers[0], name
    assert runs.read_text() == f"get 127.0.0.1:{by_helper.port}\n", runs.read_text()
    nothing_leaks(case, cache, SECRET, tokens.identity_token, f"bob:{SECRET}", f"carol:{SECRET}")


def test_logins_by_repository(case):
    private, public = case.images["team/private:1"], case.images["test/oci:1"]
    tokens = origin.TokenServer(case, "alice", SECRET)
    registry = origin.Registry(case, token=tokens)
    rules = f"""    credentials:
      - repositories: [team/*]
        username: alice
        password: {SECRET}
"""
    cache = sluice.Sluice(case, config=debugging(config(registry.url, realm_hosts="[127.0.0.1]", extra=rules)))
    assert manifest(cache, private).status == 200
    refused = manifest(cache, public)
    assert refused.status in (401, 403), refused.status
    logins = {scopes[0]: login is not None for login, scopes in tokens.requests}
    assert logins == {"repository:team/private:pull": True, "repository:test/oci:pull": False}, tokens.requests
    nothing_leaks(case, cache, SECRET, f"alice:{SECRET}")


def test_helper_that_fails(case):
    image = case.images["team/private:1"]
    registry = origin.Registry(case, accounts={"alice": SECRET})
    helper = case.file("helper", f"#!/bin/sh\necho the secret is {SECRET}\nexit 1\n")
    helper.chmod(0o700)
    cache = sluice.Sluice(case, config=debugging(config(registry.url, credential_helper=helper)))
    answer = manifest(cache, image)
    assert answer.status == 401 and SECRET.encode() not in answer.body, answer.body
    log = cache.process.log()
    assert log.count("no credentials") == 1 and "helper has failed" in log, log
    nothing_leaks(case, cache, SECRET)


def test_a_login_that_is_refused_is_seen(case):
    """By whoever looks at the log, the health check, the status page or the metrics. No client tells."""
    image = case.images["team/private:1"]
    registry = origin.Registry(case, accounts={"alice": SECRET})
    password = case.file("password", "wrong-horse\n")
    cache = sluice.Sluice(case, config=debugging(config(registry.url, username="alice", password_file=password)))
    refused = 'sluice_upstream_login_refused{upstream="docker.io"}'
    assert cache.metrics()[refused] == 0
    for _ in range(3):
        assert manifest(cache, image).status == 401
    assert cache.metrics()[refused] == 1
    warning = [line for line in cache.process.log().splitlines()
               if " warning upstream: docker.io refused our login: " in line]
    assert len(warning) == 1, cache.process.log()
    # What was asked, what came, and where to look.
    host = registry.url.removeprefix("http://")
    assert host in warning[0] and "upstreams.docker.io.username with password_file" in warning[0], warning[0]
    assert "refuses our login</span>" in cache.admin("/").body.decode()
    health = case.run(sluice.binary(), "health", "--admin", f"127.0.0.1:{cache.admin_port}",
                      environment=cache.environment()).stdout
    assert health.startswith("ready\n") and "docker.io refused our login: " in health, health
    # Each request that failed is there for whoever looks closer: method, address, status, time.
    failed = f" debug upstream: docker.io: HEAD {host}/v2/{image.repository}/manifests/{image.tag}: status 401 after "
    assert failed in cache.process.log().replace("GET ", "HEAD "), cache.process.log()
    nothing_leaks(case, cache, SECRET, "wrong-horse", "alice:wrong-horse")

    password.write_text(SECRET + "\n")
    cases.poll("the right password is taken", lambda: manifest(cache, image).status == 200)
    assert cache.metrics()[refused] == 0
    assert "refuses our login</span>" not in cache.admin("/").body.decode()


def test_offline_is_shown(case):
    cache = sluice.Sluice(case, config=config("http://127.0.0.1:1") + "offline: true\n")
    assert cache.metrics()['sluice_upstream_offline{upstream="docker.io"}'] == 1
    assert "offline, not asked</span>" in cache.admin("/").body.decode()
