"""The status page in a browser."""

import os
import pathlib
import re

from harness import browser, client
from harness.live import MIB, noted, pull, start


def keep_picture(page, name):
    """For people: where SLUICE_E2E_PICTURES names a folder."""
    if os.environ.get("SLUICE_E2E_PICTURES"):
        page.picture(pathlib.Path(os.environ["SLUICE_E2E_PICTURES"]) / f"{name}.png")


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_page_lives(case):
    upstream, cache, (small, medium, large) = start(case)
    page = browser.Browser(case)
    page.window(1280, 900)
    page.scheme("light")
    address = f"http://127.0.0.1:{cache.admin_port}/"
    page.open(address)
    page.wait_for("the page is live", "document.readyState == 'complete' && live.innerText == 'live'")
    assert "nobody has asked" in page.text("#use")
    # What would be lost if the page were loaded anew.
    page.evaluate("window.kept = 'since the beginning'")

    pull(cache, [small, medium])
    pull(cache, [small, medium])
    page.wait_for("the pull is seen", "/Clients, last hour\\s+1\\s+1 pull, 6 requests/.test(use.innerText)")
    page.wait_for("what is hot is seen", "hot.innerText.includes('docker.io/team/app\\t6 requests')")
    page.wait_for("what is stored is seen", "/docker.io.team.app\\t\\d blobs?/.test(hot.innerText)")
    page.wait_for("hits are seen", "/Blobs\\s+[0-9.]+ %/.test(requests.innerText)")

    # A download that two clients share, which upstream holds.
    upstream.hold(upstream.sent + 10 * MIB)
    readers = [cache.download("team/app", large) for _ in range(2)]
    for reader in readers:
        reader.read_exactly(MIB)
    page.wait_for("the download is seen", "/ of 24 MiB/.test(fills.innerText)")
    row = page.wait_for("both readers are seen", "(/MiB\\s+2\\s+(\\d+ \\w+)\\s+/.exec(fills.innerText) || [''])[0]")
    case.say(f"in flight: {row!r}")
    for scheme, width, height in (("light", 1280, 900), ("dark", 1280, 900), ("light", 390, 844), ("dark", 390, 844)):
        page.scheme(scheme)
        page.window(width, height, phone=width < 500)
        assert fits(page), f"{width} px: {page.evaluate('document.documentElement.scrollWidth')} px wide"
        keep_picture(page, f"status-{scheme}-{width}")
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        light = sum(map(int, re.findall(r"\d+", colour)[:3])) > 3 * 128
        assert light == (scheme == "light"), f"{scheme}: {colour}"
    upstream.release()
    for reader in readers:
        assert reader.drain() == large
    page.wait_for("the end is seen", "fills.innerText.includes('None at the moment')")

    assert page.evaluate("window.kept") == "since the beginning"
    assert page.evaluate("window.violations") == [], page.evaluate("window.violations")
    assert not page.problems, page.problems
    outside = [url for url in page.requests if not url.startswith((address, "data:image/svg+xml,"))]
    assert not outside and address + "events" in page.requests, page.requests


def test_page_without_scripts_or_above_the_limit(case):
    _, cache, (small, medium, _) = start(case)
    pull(cache, [small, medium])
    noted(cache, 3)
    address = f"http://127.0.0.1:{cache.admin_port}/"
    page = browser.Browser(case)
    page.scripts(False)
    page.open(address)
    page.wait_for("the page is there", "document.readyState == 'complete' && !!document.getElementById('rest')")
    text = page.text("body")
    for part in ("as of ", "1 pull, 3 requests", "docker.io/team/app", "Largest at rest", "Ready to serve"):
        assert part in text, f"{part!r} is not in {text}"
    assert not any(url.endswith("/events") for url in page.requests), page.requests

    for _ in range(16):
        listener = client.Download(cache.admin_port, "/events")
        case.defer(listener.close)
        assert listener.head().status == 200
    refused = cache.admin("/events")
    assert refused.status == 503 and b"16 pages listen already" in refused.body, refused
    page.scripts(True)
    page.open(address)
    page.wait_for("it says so", "live.innerText.startsWith('not live: the server refused the stream')")
    assert "1 pull, 3 requests" in page.text("body")
