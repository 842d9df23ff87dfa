"""Several sluices behind HAProxy with the configuration that docker/fleet ships, and sluices behind sluices."""

import hashlib
import json
import pathlib
import re
import shutil
import signal
import threading
import time

from harness import case as cases
from harness import client, pattern, sluice
from test_redis import Redis

FLEET = pathlib.Path(__file__).resolve().parents[2] / "docker/fleet"
MIB = 1 << 20
TRIES = 5  # as many as docker gives a layer


class Fleet:
    """`nodes` sluices of one upstream and one Redis, and HAProxy before them. Nodes beyond three get a line of their own
    in its configuration, as docs/scaling.md says."""

    def __init__(self, case, upstream, settings="", nodes=3, server=""):
        if sluice.STANDIN:
            case.skip("a docker-registry has no /readyz")
        if not shutil.which("haproxy", path="/usr/sbin:/usr/bin"):
            case.skip("haproxy is not installed")
        self.case, self.upstream, self.settings, self.server = case, upstream, settings, server
        self.redis = Redis(case)
        self.port, self.status_port = case.port(), case.port()
        self.configuration = case.file(f"haproxy-{self.port}.cfg", (FLEET / "haproxy.cfg").read_text())
        self.nodes = {}
        for _ in range(nodes):
            self.start_node()
        environment = {"PATH": "/usr/sbin:/usr/bin", "FLEET_LISTEN": f"127.0.0.1:{self.port}",
                       "FLEET_STATUS": f"127.0.0.1:{self.status_port}"}
        for number, node in enumerate(list(self.nodes.values())[:3], start=1):
            environment[f"FLEET_{number}"] = f"127.0.0.1:{node.port}"
            environment[f"FLEET_{number}_ADMIN"] = str(node.admin_port)
        self.haproxy = case.spawn("haproxy", ["haproxy", "-W", "-f", self.configuration], environment)
        self.haproxy.wait_for_port(self.port)

    def start_node(self):
        name = f"sluice-{len(self.nodes) + 1}"
        self.nodes[name] = sluice.Sluice(self.case, self.upstream, config=(
            f"server: {{ instance_id: {name}, trusted_proxies: [127.0.0.1]{self.server} }}\n"
            f"{self.redis.config()}{self.settings}"))
        return name, self.nodes[name]

    def add_node(self):
        """Starts one more, writes its line and has HAProxy read the file again."""
        name, node = self.start_node()
        last = "    server sluice-3 "
        text = self.configuration.read_text()
        assert last in text
        self.configuration.write_text(text.replace(
            last, f"    server {name} 127.0.0.1:{node.port} id {len(self.nodes)} port {node.admin_port}\n{last}"))
        self.haproxy.popen.send_signal(signal.SIGUSR2)
        return name

    def get(self, path, **options):
        return client.request(self.port, path, **options)

    def node_of(self, path):
        """Who answers this."""
        return self.get(path, method="HEAD").headers.get("x-cache-node")


class Pull:
    """One client that pulls an image as docker does: what breaks off is asked for again, from where it broke."""

    def __init__(self, port, repository, tag="latest"):
        self.port, self.repository, self.tag = port, repository, tag
        self.error, self.interrupted, self.bytes = "", 0, 0
        self.digest, self.state = "", [0, None]  # the blob that it is at; how much of it came, and the digest of that
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        try:
            manifest = json.loads(self.attempt(self.manifest))
            for blob in [manifest["config"], *manifest["layers"]]:
                self.digest, self.state = blob["digest"], [0, hashlib.sha256()]
                self.attempt(lambda: self.blob(blob["digest"], blob["size"]))
        except Exception as error:  # the thread ends, the test says so
            self.error = f"{self.repository}: {error}"

    def attempt(self, what):
        for number in range(1, TRIES + 1):
            try:
                return what()
            except (OSError, client.Broken, EOFError) as error:
                self.interrupted += 1
                if number == TRIES:
                    raise
                last = error
                time.sleep(0.2 * number)
        raise last

    def manifest(self):
        answer = client.request(self.port, f"/v2/{self.repository}/manifests/{self.tag}")
        if answer.status != 200 or not answer.complete:
            raise EOFError(f"manifest: {answer.status}")
        return answer.body

    def blob(self, digest, size):
        if self.state[0] == size:
            return
        headers = {"Range": f"bytes={self.state[0]}-"} if self.state[0] else {}
        download = client.Download(self.port, f"/v2/{self.repository}/blobs/{digest}", headers)
        try:
            download.head()
            if download.status != (206 if headers else 200):
                raise EOFError(f"{digest}: {download.status}")
            while piece := download.read(MIB):
                self.state[0] += len(piece)
                self.state[1].update(piece)
                self.bytes += len(piece)
        finally:
            download.close()
        if self.state[0] != size:
            raise EOFError(f"{digest} ended after {self.state[0]} of {size} bytes")
        if "sha256:" + self.state[1].hexdigest() != digest:
            raise ValueError(f"{digest}: wrong bytes")


def pull_all(port, repositories, count):
    pulls = [Pull(port, repositories[number % len(repositories)]) for number in range(count)]
    for pull in pulls:
        pull.thread.start()
    return pulls


def finish(pulls):
    for pull in pulls:
        pull.thread.join(100)
    assert not any(pull.thread.is_alive() for pull in pulls), "pulls hang"
    failed = [pull.error for pull in pulls if pull.error]
    assert not failed, f"{len(failed)} of {len(pulls)} pulls failed: {failed[:5]}"


def library(case, count=20, layers=3, size=MIB, rate=None):
    """An origin of `count` images that have nothing in common. Returns it and their repositories."""
    origin = pattern.Origin(case, [size] * (count * layers), rate)
    digests = list(origin.sizes)
    repositories = [f"team/image-{number}" for number in range(count)]
    for number, repository in enumerate(repositories):
        origin.put_image(repository, "latest", digests[number * layers:(number + 1) * layers])
    return origin, repositories


def test_node_dies_under_fifty_pulls(case):
    """Nobody notices for good. Upstream is asked again only for what the dead node had received."""
    origin, repositories = library(case)
    fleet = Fleet(case, origin.url)
    # So upstream has sent just this when the node dies, on a machine of any speed.
    origin.hold(origin.total * 15 // 100)
    pulls = pull_all(fleet.port, repositories, 50)
    cases.poll("upstream has sent what it may", lambda: origin.sent > origin.hold_at - origin.PIECE, 60)
    # One of these is in the middle of a blob that cannot end.
    caught = cases.poll("a client is in the middle of a blob", lambda: next(
        (pull for pull in pulls if pull.state[0] and pull.digest not in origin.ended), None), 60)
    victim = fleet.node_of(f"/v2/{caught.repository}/blobs/{caught.digest}")
    fleet.nodes[victim].process.kill()
    origin.release()
    finish(pulls)
    got = sum(pull.bytes for pull in pulls)
    interrupted = sum(1 for pull in pulls if pull.interrupted)
    case.say(f"{victim} died; {interrupted} of {len(pulls)} pulls were interrupted, none failed; clients got "
             f"{got / MIB:.0f} MiB, upstream sent {origin.sent / origin.total:.3f} times the {origin.total / MIB:.0f} MiB")
    assert caught.interrupted, "the node had nothing to do"
    assert origin.sent <= 1.1 * origin.total, f"upstream sent {origin.sent / origin.total:.3f} times the images"


def test_nodes_share_digests_and_tags(case):
    """A digest is at one node whatever repository asks, `latest` of many repositories at all of them; a node that is
    added takes its share, and nothing moves between the others, nor when one dies."""
    origin, repositories = library(case, count=60, layers=1, size=1000)
    fleet = Fleet(case, origin.url)
    digests = ["sha256:" + hashlib.sha256(str(number).encode()).hexdigest() for number in range(200)]

    def places():
        return {digest: fleet.node_of(f"/v2/team/one/blobs/{digest}") for digest in digests}

    before = places()
    assert set(before.values()) == set(fleet.nodes), set(before.values())
    other = {digest: fleet.node_of(f"/v2/team/two/manifests/{digest}") for digest in digests[:50]}
    assert all(before[digest] == node for digest, node in other.items()), "a digest is at two nodes"
    tags = [fleet.node_of(f"/v2/{repository}/manifests/latest") for repository in repositories]
    spread = {node: tags.count(node) for node in fleet.nodes}
    case.say(f"digests: { {node: list(before.values()).count(node) for node in fleet.nodes} }, latest: {spread}")
    assert min(spread.values()) >= len(tags) // 6, f"latest of {len(tags)} repositories: {spread}"

    new = fleet.add_node()
    cases.poll("HAProxy has read its file again", lambda: new in places_of(fleet, digests[:60]), 40, 0.2)
    after = places()
    moved = [digest for digest in digests if after[digest] != before[digest]]
    case.say(f"{len(moved)} of {len(digests)} digests moved to the fourth node")
    assert {after[digest] for digest in moved} == {new}, "digests moved between nodes that were there"
    assert len(moved) <= len(digests) * (1 / 4 + 0.06), f"{len(moved)} of {len(digests)} moved"

    fleet.nodes["sluice-2"].process.kill()
    cases.poll("HAProxy knows that it is gone", lambda: "sluice-2" not in places_of(fleet, digests[:60]), 30, 0.2)
    last = places()
    assert all(last[digest] == after[digest] for digest in digests if after[digest] != "sluice-2")


def places_of(fleet, digests):
    return {fleet.node_of(f"/v2/team/one/blobs/{digest}") for digest in digests}


def test_node_drains_unnoticed(case):
    """From SIGTERM on /readyz says so; the node answers until HAProxy has gone elsewhere, and ends what it is sending."""
    origin, repositories = library(case, count=1, layers=2, size=24 * MIB)
    fleet = Fleet(case, origin.url, server=", drain_delay: 1m")
    digest = list(origin.sizes)[1]
    path = f"/v2/{repositories[0]}/blobs/{digest}"
    name = fleet.node_of(path)
    node = fleet.nodes[name]
    reader = client.Download(fleet.port, path, receive_buffer=64 * 1024)
    case.defer(reader.close)
    reader.head()
    assert reader.headers["x-cache-node"] == name
    reader.read_exactly(64 * 1024)

    node.process.popen.send_signal(signal.SIGTERM)
    said = cases.poll("/readyz says that it drains", lambda: not_ready(node))
    assert [check["reason"] for check in said["checks"] if not check["ready"]] == ["draining"], said
    seen = []

    def asked_elsewhere():
        answer = fleet.get(path, method="HEAD")
        assert answer.status == 200, f"{answer.status} while {name} drains"
        seen.append(answer.headers["x-cache-node"])
        return seen[-1] != name

    cases.poll("HAProxy asks another node", asked_elsewhere, 30, 0.1)
    assert node.process.alive() and node.get(path, method="HEAD").status == 200, "it closed its port before its time"
    case.say(f"{len(seen)} requests until HAProxy asked another node, all answered")
    assert reader.drain() == digest and reader.complete, f"{reader.received} bytes came"
    reader.close()
    node.process.popen.send_signal(signal.SIGTERM)  # a second one: no need to wait for the delay
    assert node.process.wait(30) == 0


def not_ready(node):
    answer = node.admin("/readyz")
    return answer.status == 503 and json.loads(answer.body)


def test_lost_redis_costs_questions_only(case):
    """Without Redis pulls go on, and no blob is fetched twice."""
    origin, repositories = library(case, count=9, layers=2)
    fleet = Fleet(case, origin.url)
    finish(pull_all(fleet.port, repositories[:6], 12))
    sent = origin.sent
    fleet.redis.process.kill()
    finish(pull_all(fleet.port, repositories, 18))
    assert origin.sent == origin.total, f"{origin.sent} bytes sent for {origin.total}"
    case.say(f"{sent / MIB:.0f} MiB before Redis was lost, {(origin.sent - sent) / MIB:.0f} after, none of them again")
    assert all(node.process.alive() and node.admin("/readyz").status == 200 for node in fleet.nodes.values())


def test_sites_behind_a_region(case):
    """Two sites pull through one region, which names registries by their path: each registry sends each blob once, also
    when a site has lost its data, and a site goes past a region that is gone."""
    hub, repositories = library(case, count=3, layers=2)
    other = pattern.Origin(case, [MIB + 1, MIB + 2])
    other.put_image(repositories[0], "latest", list(other.sizes))
    upstreams = (f"upstreams: {{ docker.io: {{ url: '{hub.url}' }}, "
                 f"registry.example: {{ url: '{other.url}' }} }}\n")
    region = Fleet(case, None, settings=upstreams, nodes=3)
    sites = [sluice.Sluice(case, config=(
        f"server: {{ instance_id: site-{number} }}\nupstreams:\n"
        f"  docker.io: {{ url: 'http://127.0.0.1:{region.port}', endpoints: ['{hub.url}'] }}\n"
        f"  registry.example: {{ url: 'http://127.0.0.1:{region.port}/registry.example' }}\n")) for number in (1, 2)]

    def pull_everything(site):
        finish(pull_all(site.port, [*repositories, f"registry.example/{repositories[0]}"], 8))

    for site in sites:
        pull_everything(site)
    assert (hub.sent, other.sent) == (hub.total, other.total), (hub.sent, other.sent)
    sites[0].stop()
    sites[0].forget()
    sites[0].start()
    pull_everything(sites[0])
    assert (hub.sent, other.sent) == (hub.total, other.total), (hub.sent, other.sent)
    case.say("the registries sent each blob once, for two sites and one that had lost its data")

    region.haproxy.stop()
    pull_everything(sites[0])
    sites[1].stop()
    sites[1].forget()
    sites[1].start()
    finish(pull_all(sites[1].port, repositories, 3))
    assert hub.sent == 2 * hub.total, "the site did not go to the registry itself"


def test_compose_and_configuration_agree(case):
    """compose.yml's settings are the program's, and HAProxy takes the file with the names of compose."""
    text = (FLEET / "compose.yml").read_text()
    settings = dict(re.findall(r"^    (SLUICE_\w+): (.*)$", text, re.M))
    settings = {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value).strip('"') for name, value in settings.items()}
    assert "SLUICE_SERVER_DRAIN_DELAY" in settings, settings
    said = case.run(sluice.binary(), "check-config", environment=settings).stdout
    assert "drain_delay: 5s" in said and "trusted_proxies" in said, said
    configuration = (FLEET / "haproxy.cfg").read_text()
    services = re.findall(r"^  (sluice-(\d)):\n    <<", text, re.M)
    assert len(services) == 3, services
    for service, number in services:
        assert f"presetenv FLEET_{number} {service}:5000\n" in configuration, service
    if shutil.which("haproxy", path="/usr/sbin:/usr/bin"):
        case.run("haproxy", "-c", "-f", FLEET / "haproxy.cfg", environment={"PATH": "/usr/sbin:/usr/bin"})


