"""The configuration is read again under load: no request fails, and a file that is no good changes nothing."""

import json
import os
import signal
import threading

from harness import case as cases
from harness import client, faults, images, origin, sluice
from test_skopeo import copy, same
from test_upstreams import config


class Load:
    """Clients that download blobs one after another until they are told to stop."""

    def __init__(self, cache, image, clients=4):
        self.cache, self.image = cache, image
        self.done, self.wrong = 0, []
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def run(self):
        while not self.stopped.is_set():
            # The manifest is asked for upstream each time.
            for path, size in [(f"manifests/{self.image.tag}", None),
                               *((f"blobs/{digest}", size) for digest, size in self.image.blobs.items())]:
                try:
                    answer = self.cache.get(f"/v2/{self.image.repository}/{path}", {"Accept": images.ACCEPT})
                    good = answer.status == 200 and answer.complete and size in (None, len(answer.body))
                    reason = f"{path}: {answer.status}, {len(answer.body)} of {size} bytes"
                except (OSError, client.Broken) as error:
                    good, reason = False, repr(error)
                if not good:
                    self.wrong.append(reason)
                self.done += 1

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join(60)


def reloads(cache, result):
    return cache.metrics().get(f'sluice_config_reloads_total{{result="{result}"}}', 0)


def command(case, cache, *options):
    return case.run(sluice.binary(), "reload", "--admin", f"127.0.0.1:{cache.admin_port}", *options, check=False,
                    environment=sluice.Sluice.environment())


def test_hup_under_load(case):
    image = case.images["test/oci:1"]
    registries = [origin.Registry(case) for _ in range(2)]
    proxies = [faults.FaultProxy(case, registry.port) for registry in registries]
    asked = "tags:\n  ttl: 0s\n"
    cache = sluice.Sluice(case, config=config(proxies[0].url) + asked)
    file = cache.home / "sluice.yml"
    load = Load(cache, image)
    case.defer(load.stop)
    for turn in range(60):
        # The upstream is another one each time.
        before = reloads(cache, "applied")
        next_file = cache.home / "next.yml"
        next_file.write_text(config(proxies[turn % 2].url)
                             + f"server:\n  client:\n    max_connections: {100 + turn}\n" + asked)
        next_file.replace(file)  # a reload that still runs reads the one or the other
        os.kill(cache.process.pid, signal.SIGHUP)
        if turn % 4 in (1, 2):
            cases.poll("it is in force", lambda: reloads(cache, "applied") > before)
            seen = load.done
            cases.poll("clients notice", lambda: load.done > seen + 10)
    cases.poll("the last one counts", lambda: "server.client.max_connections" in cache.process.log())
    applied = cases.poll("it was reloaded", lambda: reloads(cache, "applied"))
    seen = load.done
    cases.poll("clients go on", lambda: load.done > seen + 20)
    load.stop()
    case.say(f"{load.done} downloads, {int(applied)} reloads")
    assert all(proxy.count("GET") + proxy.count("HEAD") > 10 for proxy in proxies), "not all were asked"
    assert not load.wrong, f"{len(load.wrong)} of {load.done} failed: {load.wrong[:3]}"


def test_a_download_goes_on_with_the_upstream_of_before(case):
    image = case.images["test/oci:1"]
    digest, size = max(image.blobs.items(), key=lambda item: item[1])
    first, second = (faults.FaultProxy(case, origin.Registry(case).port) for _ in range(2))
    cache = sluice.Sluice(case, config=config(first.url))
    first.throttle(max(size // 4, 1))
    download = cache.download(image.repository, digest)
    (cache.home / "sluice.yml").write_text(config(second.url))
    done = command(case, cache)
    assert done.returncode == 0 and "in force: upstreams.docker.io" in done.stdout, done.stdout
    first.throttle(None)
    assert len(download.body()) == size and download.sha256() == digest
    # Whatever comes now is asked of the other one.
    before = first.count()
    same(copy(case, second.port, image, case.tmp / "direct"), copy(case, cache.port, image, case.tmp / "cached"))
    assert first.count() == before, "the old upstream is still asked"


def test_a_file_that_is_no_good_changes_nothing(case):
    registry = origin.Registry(case)
    url = f"http://127.0.0.1:{registry.port}"
    cache = sluice.Sluice(case, config=config(url))
    file = cache.home / "sluice.yml"
    file.write_text(config(url) + "server:\n  deny: [127.0.0.1/8]\n")
    done = command(case, cache)
    assert done.returncode == 78, done.stdout
    assert f"{file}:6: server.deny: found" in done.stdout, done.stdout
    os.kill(cache.process.pid, signal.SIGHUP)
    cases.poll("it is refused", lambda: reloads(cache, "refused") == 2)
    assert f"{file}:6: server.deny: found" in cache.process.log()
    assert cache.get("/v2/").status == 200
    # Certificates that are no certificates too.
    bad = cache.home / "bad.pem"
    bad.write_text("nothing")
    file.write_text(config(url) + f"log:\n  level: debug\nserver:\n  tls: {{cert_file: {bad}, key_file: {bad}}}\n")
    done = command(case, cache)
    assert done.returncode == 78 and str(bad) in done.stdout, done.stdout

    file.write_text(config(url) + "server:\n  deny: [127.0.0.1]\n  threads: 1\ntags:\n  ttl: 5m\n")
    done = command(case, cache, "--json")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout) == {"changed": ["server.deny"], "restart": ["server.threads", "tags.ttl"]}
    assert client.raw_exchange(cache.port, b"") == b"", "it lets in whom it should not"
    # What stands on the command line stands above the file, also now.
    file.write_text("log:\n  level: debug\nserver:\n  listen: 127.0.0.1:1\n" + config(url))
    done = command(case, cache, "--json")
    assert json.loads(done.stdout) == {"changed": ["server.deny", "log.level"], "restart": []}
    assert cache.get("/v2/").status == 200


def test_a_broken_file_that_is_named(case):
    """The one who typed it hears of the mistake, and so do the log and the metrics of the process whose file it is."""
    registry = origin.Registry(case)
    text = config(f"http://127.0.0.1:{registry.port}")
    cache = sluice.Sluice(case, config=text)
    file = cache.home / "sluice.yml"

    def named(path):
        return case.run(sluice.binary(), "reload", "--config", path, check=False,
                        environment=sluice.Sluice.environment())

    at = f"admin:\n  listen: 127.0.0.1:{cache.admin_port}\n"
    file.write_text(text + at + "tags:\n  ttl: never\n")
    done = named(file)
    assert done.returncode == 78, done.stdout
    assert done.stdout.count(": tags.ttl: found") == 1, done.stdout
    assert reloads(cache, "refused") == 1
    assert "not reloaded, the old configuration stays in force" in cache.process.log()
    assert cache.metrics()["sluice_config_last_reload_successful"] == 0
    # Its own file is fine, and the one that is named is another one.
    file.write_text(text + at + "log:\n  level: debug\n")
    other = cache.home / "other.yml"
    other.write_text(at + "tags:\n  ttl: never\n")
    done = named(other)
    assert done.returncode == 78, done.stdout
    assert "in force: log.level" in done.stdout and f"{other}:4: tags.ttl: found" in done.stdout, done.stdout
    assert reloads(cache, "applied") == 1
    # Nobody is there.
    other.write_text(f"admin:\n  listen: 127.0.0.1:{case.port()}\ntags:\n  ttl: never\n")
    done = named(other)
    assert done.returncode == 78 and ": tags.ttl: found" in done.stdout, done.stdout
