"""What dockerd asks of an index. The rest of it is in test_clients.py."""

from harness import clients, faults, origin, sluice


def test_pulls_one_platform_of_an_index(case):
    index = case.images["test/multi:1"]
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    cache = sluice.Sluice(case, proxy.url)
    docker = clients.Docker(case, cache.port)

    docker.pull(index)
    pulled = docker.inspect(index.name)
    assert pulled["RepoDigests"] == [f"test/multi@{index.digest}"]
    asked = [digest for digest in index.blobs if proxy.count("GET", digest)]
    assert len(asked) < len(index.blobs), "blobs of the platform that nobody asked for were fetched"
    docker.wipe()
    proxy.refuse()
    docker.run("pull", f"test/multi@{index.digest}")
    assert docker.inspect(f"test/multi@{index.digest}")["Id"] == pulled["Id"]
    assert not docker.dead_end.wanted, docker.dead_end.wanted
