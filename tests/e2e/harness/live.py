"""A sluice with an image of two layers upstream, for tests of what it shows of itself."""

import json

from harness import case as cases
from harness import images, pattern, sluice

MIB = 1 << 20


def start(case):
    upstream = pattern.Origin(case, [300_000, 3 * MIB, 24 * MIB])
    small, medium, large = upstream.sizes
    upstream.put_image("team/app", "1.0", [small, medium])
    cache = sluice.Sluice(case, upstream.url)
    return upstream, cache, (small, medium, large)


def pull(cache, digests):
    assert cache.get("/v2/team/app/manifests/1.0", {"Accept": images.ACCEPT}).status == 200
    for digest in digests:
        assert cache.blob("team/app", digest).status == 200


def noted(cache, count):
    """Waits for the last requests to be noted, which is a moment after their clients have them."""
    def requests():
        pulls = json.loads(cache.admin("/api/v1/pulls").body)["pulls"]
        return sum(len(pull["requests"]) for pull in pulls)

    cases.poll(f"{count} requests are noted", lambda: requests() == count)
