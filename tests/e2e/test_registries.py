"""Several registries behind one cache, and what they do in the middle of a pull."""

import base64
import concurrent.futures
import itertools
import shutil

from harness import case as cases
from harness import clients, faults, images, origin, sluice
from test_entry import ALICE
from test_tags import digest_of, image, writable
from test_upstreams import config

SECRET = "correct-horse"


def upstream(name, url, **settings):
    return "\n".join([f"  {name}:", f"    url: {url}"] + [f"    {k}: {v}" for k, v in settings.items()]) + "\n"


def test_three_registries_for_four_clients(case):
    """Docker Hub with tokens, ghcr.io with passwords and quay.io with TLS, all cold, and everybody at once."""
    login = {"username": "alice", "password": SECRET}
    tokens = origin.TokenServer(case, "alice", SECRET)
    authority = origin.Authority(case, "ours")
    plain = origin.Registry(case)
    hub = faults.FaultProxy(case, origin.Registry(case, token=tokens).port)
    github = faults.FaultProxy(case, origin.Registry(case, accounts={"alice": SECRET}).port)
    quay = faults.FaultProxy(case, plain.port, certificate=authority.sign())
    cache = sluice.Sluice(case, config="upstreams:\n"
                          + upstream("docker.io", hub.url, realm_hosts="[127.0.0.1]", **login)
                          + upstream("ghcr.io", github.url, **login)
                          + upstream("quay.io", quay.url, ca_file=authority.certificate))
    # No two of them have a blob in common.
    has = {"docker.io": (hub, case.images["test/layers:1"]), "ghcr.io": (github, case.images["test/zstd:1"]),
           "quay.io": (quay, case.images["test/oci:1"])}
    files = {name: clients.contents(plain, wanted) for name, (_, wanted) in has.items()}

    def pulls(client, *registries):
        for name in registries:
            _, wanted = has[name]
            client.pull(wanted, name)
            client.verify(wanted, files[name], name)

    def pulls_by_name(client):
        # One registry by a file of its own, the other by that for all the rest.
        page = "/etc/containerd/certs.d/{}/hosts.toml"
        client.mirror("ghcr.io", clients.snippet("containerd", page.format("docker.io"), {
            clients.ADDRESS: client.address, "registry-1.docker.io": "ghcr.io"}))
        client.mirror("_default", clients.snippet("containerd", page.format("_default"), {
            clients.ADDRESS: client.address}))
        pulls(client, *has)

    def pulls_by_mirror(client):
        pulls(client, "docker.io", "ghcr.io")

    def pulls_by_prefix(client):
        for name, (_, wanted) in has.items():
            for prefix in (f"/{name}", "") if name == "docker.io" else (f"/{name}",):
                client.pull(wanted, client.address + prefix, "--src-tls-verify=false")
                client.verify(wanted, files[name])

    def pulls_from_the_default(client):
        client.pull(has["docker.io"][1])
        client.verify(has["docker.io"][1], files["docker.io"])

    ways = {clients.Docker: pulls_from_the_default, clients.Containerd: pulls_by_name,
            clients.Podman: pulls_by_mirror, clients.Skopeo: pulls_by_prefix}
    everybody = {make: clients.if_it_runs_here(make, case, cache.port) for make in ways}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = [pool.submit(ways[make], client) for make, client in everybody.items() if client]
    for each in running:
        each.result()
    for name, (proxy, wanted) in has.items():
        for digest, size in wanted.blobs.items():
            # 401 is where the registry has said that it wants a login.
            fetched = [r for r in proxy.seen("GET", digest) if r.status != 401]
            assert len(fetched) == 1 and fetched[0].sent == size, f"{name}: {[(r.status, r.sent) for r in fetched]}"
            others = [other for other, _ in has.values() if other is not proxy]
            assert not any(other.count(match=digest) for other in others), f"{digest} is of {name}"
        case.say(f"{name}: {len(wanted.blobs)} blobs, {proxy.count()} requests")
    for client in filter(None, everybody.values()):
        assert not client.dead_end.wanted, f"{client.name}: {client.dead_end.wanted}"


def test_token_that_expires_in_the_middle_of_a_blob(case):
    wanted = case.images["test/layers:1"]
    digest, size = wanted.layers[0], wanted.blobs[wanted.layers[0]]
    tokens = origin.TokenServer(case, "alice", SECRET)
    registry = origin.Registry(case, token=tokens)
    proxy = faults.FaultProxy(case, registry.port)
    cache = sluice.Sluice(case, config=config(proxy.url, username="alice", password=SECRET, realm_hosts="[127.0.0.1]"))
    # sluice is told that it lasts for five minutes.
    tokens.lifetime = -55
    proxy.throttle(60_000)
    path = f"/v2/{wanted.repository}/blobs/{digest}"
    proxy.fault(digest, cut_after=size * 2 // 3, times=None)
    reader = cache.download(wanted.repository, digest)
    assert reader.status == 200

    first = [r for r in proxy.seen("GET", digest) if r.status == 200][0]
    token = {"Authorization": first.headers["authorization"]}
    cases.poll("the token has expired", lambda: registry.get(path, token, "HEAD").status == 401, interval=0.2)
    assert first.sent < size * 2 // 3, "the blob was faster"
    proxy.mend()
    tokens.lifetime = 300
    proxy.throttle(None)
    assert reader.drain() == digest and reader.complete
    statuses = [r.status for r in proxy.seen("GET", digest) if r is not first]
    case.say(f"after that, upstream answered {statuses}")
    assert statuses[-2:] == [401, 206], statuses


def test_presigned_address_that_expires_before_the_resume(case):
    wanted = case.images["test/layers:1"]
    digest, size = wanted.layers[0], wanted.blobs[wanted.layers[0]]
    registry = origin.Registry(case)
    front, storage = faults.FaultProxy(case, registry.port), faults.FaultProxy(case, registry.port)
    number = itertools.count(1)
    front.fault(digest, status=307, times=None, heads=True,
                location=lambda path: f"{storage.url}{path}?signature={next(number)}.")
    storage.fault("signature=1.", cut_after=size // 2)
    # The one that it began with, and one more that takes too long on its way.
    storage.fault("signature=1.", status=403, times=None)
    storage.fault("signature=2.", status=403, times=None)
    cache = sluice.Sluice(case, config=config(front.url))
    reader = cache.download(wanted.repository, digest)
    assert reader.drain() == digest and reader.complete
    seen = [(r.status, r.path.partition("=")[2], r.headers.get("range")) for r in storage.seen("GET", digest)]
    case.say(f"storage answered {[status for status, _, _ in seen]}")
    assert seen[-1] == (206, "3.", f"bytes={size // 2}-"), seen
    cases.poll("no byte came twice", lambda: storage.bytes_sent(digest) == size)


def test_a_tag_deleted_upstream(case):
    registry = writable(case)
    proxy = faults.FaultProxy(case, registry.port)
    cache = sluice.Sluice(case, config="tags:\n  ttl: 0s\n" + config(proxy.url))
    kept = image(registry, "team/app", "stays", "stays")
    gone = image(registry, "team/app", "goes", "goes")
    assert digest_of(cache, "team/app", "stays") == kept and digest_of(cache, "team/app", "goes") == gone
    shutil.rmtree(registry.storage / "docker/registry/v2/repositories/team/app/_manifests/tags/goes")
    answer = cache.get("/v2/team/app/manifests/goes", {"Accept": images.ACCEPT})
    assert answer.status == 404 and answer.codes() == ["MANIFEST_UNKNOWN"], answer
    # What it was is still there for who knows its digest, and an outage does not bring the tag back.
    assert digest_of(cache, "team/app", gone) == gone
    proxy.refuse()
    assert digest_of(cache, "team/app", "stays") == kept
    assert cache.get("/v2/team/app/manifests/goes", {"Accept": images.ACCEPT}).status != 200
    assert digest_of(cache, "team/app", gone) == gone


def test_a_private_repository_and_the_logins_of_four_clients(case):
    """access: passthrough. The blobs are on disk, and still only who may pull them from upstream gets them."""
    private = case.images["team/private:1"]
    files = clients.contents(origin.Registry(case), private)
    tokens = origin.TokenServer(case, "alice", SECRET)
    registry = origin.Registry(case, token=tokens)
    proxy = faults.FaultProxy(case, registry.port)
    cache = sluice.Sluice(case, config=config(proxy.url, access="passthrough"))
    login = ("login", "--username", "alice", "--password", SECRET)
    everybody = {make: clients.if_it_runs_here(make, case, cache.port) for make in (
        clients.Docker, clients.Containerd, clients.Podman, clients.Skopeo)}
    docker, containerd, podman, skopeo = everybody.values()
    # docker sends a mirror what it has for Docker Hub, so here it is sluice by name.
    named = f"127.0.0.1:{cache.port}/{private.name}"

    if docker:
        docker.run(*login, docker.address)
        docker.run("pull", named)
        assert docker.inspect(named)["Id"] == private.config
    for client in filter(None, (podman, skopeo)):
        client.environment["REGISTRY_AUTH_FILE"] = str(client.home / "auth.json")
        client.tool(*login, "--tls-verify=false", client.address)
        client.pull(private)
        client.verify(private, files)
    if containerd:
        rights = [*containerd.command(private)[:-1], "--user", f"alice:{SECRET}", containerd.command(private)[-1]]
        case.run(*rights, environment=containerd.environment)
        containerd.verify(private, files)
    for digest in private.blobs:
        fetched = [r.status for r in proxy.seen("GET", digest) if r.status != 401]
        assert fetched == [200] and cache.keeps(digest), f"{digest}: {fetched}"

    for client in filter(None, everybody.values()):
        client.wipe()
        client.environment.pop("REGISTRY_AUTH_FILE", None)
    if docker:
        docker.run("logout", docker.address)
        done = docker.run("pull", named, check=False)
        assert done.returncode != 0 and "denied" in done.stdout, done.stdout
    for client in filter(None, (containerd, podman, skopeo)):
        done = client.pull(private, check=False)
        assert done.returncode != 0, f"{client.name}: {done.stdout}"
        assert client.dead_end.wanted, f"{client.name} did not look elsewhere: {done.stdout}"
    assert SECRET not in cache.process.log()


def test_tls_and_a_login_of_the_cache_with_four_clients(case):
    wanted = case.images["test/layers:1"]
    registry = origin.Registry(case)
    files = clients.contents(registry, wanted)
    authority = origin.Authority(case, "cache")
    certificate, key = authority.sign()
    users = case.file("htpasswd", ALICE)
    cache = sluice.Sluice(case, config=config(registry.url) + f"""auth:
  htpasswd_file: {users}
server:
  tls:
    cert_file: {certificate}
    key_file: {key}
""")
    login = ("login", "--username", "alice", "--password", SECRET)
    named = f"127.0.0.1:{cache.port}/{wanted.name}"

    docker = clients.if_it_runs_here(clients.Docker, case, cache.port)
    if docker:
        docker.trust(authority.certificate)
        docker.run(*login, docker.address)
        docker.run("pull", named)
        assert docker.inspect(named)["Id"] == wanted.config
        docker.run("logout", docker.address)
        docker.wipe()
        assert docker.run("pull", named, check=False).returncode != 0
    for make in (clients.Podman, clients.Skopeo):
        client = clients.if_it_runs_here(make, case, cache.port)
        if client and client.apart:
            client.trust(authority.certificate)
            client.environment["REGISTRY_AUTH_FILE"] = str(client.home / "auth.json")
            assert client.pull(wanted, check=False).returncode != 0
            client.dead_end.wanted.clear()
            client.tool(*login, client.address)
            client.pull(wanted)
            client.verify(wanted, files)
            assert not client.dead_end.wanted, client.dead_end.wanted
    containerd = clients.if_it_runs_here(clients.Containerd, case, cache.port)
    if containerd:
        containerd.mirror("docker.io", clients.snippet("Logins", "/etc/containerd/certs.d/docker.io/hosts.toml", {
            "cache.example:5000": containerd.address, "/etc/containerd/cache.crt": str(authority.certificate),
            "dXNlcjpwYXNzd29yZA==": base64.b64encode(f"alice:{SECRET}".encode()).decode()}))
        containerd.pull(wanted)
        containerd.verify(wanted, files)
        assert not containerd.dead_end.wanted, containerd.dead_end.wanted
