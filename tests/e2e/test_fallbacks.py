"""An upstream in trouble: all clients go on pulling what is cached, and find their other way for what is not."""

import concurrent.futures
import threading
import time

from harness import clients, faults, origin, sluice
from test_outages import IMPATIENT
from test_upstreams import config


def at_once(action, everybody):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(action, everybody))


def test_every_client_in_each_kind_of_outage(case):
    cached, uncached = case.images["test/layers:1"], case.images["test/zstd:1"]
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    other = origin.Registry(case)
    elsewhere = faults.FaultProxy(case, other.port)
    files = {image.name: clients.contents(other, image) for image in (cached, uncached)}
    cache = sluice.Sluice(case, config="tags:\n  ttl: 0s\n" + config(proxy.url, **IMPATIENT))
    # docker's fallback is Docker Hub alone: that it looks for it has to do.
    docker = clients.if_it_runs_here(clients.Docker, case, cache.port)
    fallbacks = {clients.Containerd: elsewhere.url, clients.Podman: f"127.0.0.1:{elsewhere.port}",
                 clients.Skopeo: f"127.0.0.1:{elsewhere.port}"}
    others = [clients.if_it_runs_here(make, case, cache.port, fallback) for make, fallback in fallbacks.items()]
    everybody = [client for client in (docker, *others) if client]

    def pulls(client, image):
        client.wipe()
        client.pull(image)
        client.verify(image, files[image.name])

    def goes_elsewhere(client):
        started = time.monotonic()
        if client is docker:
            done = client.pull(uncached, check=False)
            assert done.returncode != 0, done.stdout
            assert any("registry-1.docker.io" in line for line in client.dead_end.wanted), client.dead_end.wanted
        else:
            pulls(client, uncached)
        took = time.monotonic() - started
        assert took < 20, f"{client.name} was kept for {took:.1f} s"
        return f"{client.name} {took:.1f} s"

    at_once(lambda client: pulls(client, cached), everybody)
    let_go = threading.Event()
    case.defer(let_go.set)
    kinds = {"429": lambda: proxy.fault("/v2/", status=429, times=None, heads=True),
             "500": lambda: proxy.fault("/v2/", status=500, times=None, heads=True),
             "503": lambda: proxy.fault("/v2/", status=503, times=None, heads=True),
             "hanging": lambda: proxy.fault("/v2/", hold=let_go, times=None, heads=True),
             "refusing": proxy.refuse,
             "gone": registry.stop}
    for name, begin in kinds.items():
        # Anew, so that none profits from what was learnt of the one before.
        proxy.mend()
        cache.restart()
        begin()
        before = elsewhere.count()
        at_once(lambda client: pulls(client, cached), everybody)
        assert elsewhere.count() == before, f"{name}: {elsewhere.seen()[before:]}"
        for client in everybody:
            assert not client.dead_end.wanted, f"{name}: {client.name} wanted {client.dead_end.wanted}"
        took = at_once(goes_elsewhere, everybody)
        for client in everybody:
            client.dead_end.wanted.clear()
        case.say(f"{name:<8} × cached: pass; × not cached, elsewhere: {', '.join(took)}")
        if begin == proxy.refuse:
            proxy.accept()
