"""The dashboard of docker/grafana and the rules of docker/prometheus against a real Prometheus that scrapes a sluice
under pulls and faults; and the dashboard's model against the rules that linters of dashboards check."""

import functools
import html
import json
import math
import os
import pathlib
import random
import re
import threading
import time

from harness import case as cases
from harness import faults, images, origin, picture, prometheus, sluice
from test_alerts import RULES, rules
from test_metrics import Metered
from test_redis import Redis

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOARD = ROOT / "docker/grafana/dashboards/sluice.json"
# Of what these are about, too little happens in a minute to be a number.
MAY_BE_NAN = {"Token requests"}
ONLY_WITH_TLS = {"Certificate expires in"}


def board():
    return json.loads(BOARD.read_text())


def panels():
    return [panel for panel in board()["panels"] if panel["type"] != "row"]


def substituted(expression, interval="1m"):
    for name, value in {"$__rate_interval": interval, "$__range": "1m", "$price_per_gb": "0.09", "$job": ".+",
                        "$instance": ".+", "$upstream": ".+"}.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, f"a variable that the dashboard does not have: {expression}"
    return expression


# --- with data -------------------------------------------------------------------------------------------------------


def config(redis, hub, other):
    return f"""
default_upstream: docker.io
upstreams:
  docker.io: {{ url: "{hub}", retries: 0, headers_timeout: 3s, connect_timeout: 2s }}
  metered.example: {{ url: "{other}" }}
tags: {{ ttl: 0s }}
store: {{ max_size: 96MiB, min_free: off, fsync: false }}
descriptors: {{ cache: redis }}
redis: {{ addresses: ['127.0.0.1:{redis.port}'], memory_ttl: 0s }}
"""


def pull(case, cache, proxy, metered):
    """Everything that the dashboard shows, once."""
    image, big = case.images["test/medium:1"], case.images["test/big:1"]
    proxy.throttle(60e6)
    first = cache.download(image.repository, image.layers[0])
    first.read_exactly(1 << 20)
    second = cache.download(image.repository, image.layers[0])
    assert first.drain() == second.drain() == image.layers[0]
    proxy.throttle(None)
    assert cache.blob(image.repository, image.layers[0]).status == 200
    manifest = f"/v2/{image.repository}/manifests/{image.tag}"
    for path in (manifest, manifest, f"/v2/{image.repository}/tags/list"):
        assert cache.get(path, {"Accept": images.ACCEPT}).status == 200
    assert cache.get(f"/v2/{image.repository}/manifests/none").status == 404
    assert cache.blob(big.repository, big.layers[0], {"Range": "bytes=200000000-200001000"}).status == 206
    # More than fits, so that something is evicted.
    for number in range(24):
        digest, = metered.add("some/app", bytes([number]) * (4 << 20))
        assert cache.blob("metered.example/some/app", digest).status == 200
    # Bytes that are wrong, and a connection that breaks.
    oci = case.images["test/oci:1"]
    proxy.fault("/blobs/" + oci.layers[0], corrupt_at=3)
    assert not cache.blob(oci.repository, oci.layers[0]).complete
    proxy.fault("/blobs/" + oci.layers[0], cut_after=10)
    assert cache.blob(oci.repository, oci.layers[0]).complete
    # And an outage.
    proxy.refuse()
    assert cache.get(manifest, {"Accept": images.ACCEPT}).headers["warning"].startswith("110 ")
    assert cache.get(f"/v2/{image.repository}/manifests/other").status >= 500
    cases.poll("the outage is noticed", lambda: cache.metrics()['sluice_upstream_up{upstream="docker.io"}'] == 0)


def traffic(case, cache, metered, seconds):
    """For a picture that is worth looking at: clients that pull, some images more often than others, for so long."""
    if not seconds:
        return
    blobs = [("metered.example/some/app", digest) for number in range(40)
             for digest in metered.add("some/app", bytes([100 + number]) * (4 << 20))]
    blobs += [(image.repository, layer) for image in (case.images["test/layers:1"], case.images["test/oci:1"])
              for layer in image.layers]
    tags = [case.images[name] for name in ("test/layers:1", "test/oci:1", "test/docker:1", "test/zstd:1")]
    end = time.monotonic() + seconds

    def client(seed):
        choice = random.Random(seed)
        while time.monotonic() < end:
            image = choice.choice(tags)
            cache.get(f"/v2/{image.repository}/manifests/{image.tag}", {"Accept": images.ACCEPT})
            for _ in range(choice.randrange(6)):
                cache.blob(*blobs[min(int(choice.expovariate(1 / 8)), len(blobs) - 1)])
            if choice.random() < 0.1:
                cache.get(f"/v2/{image.repository}/tags/list")
            # More of them at some times than at others.
            time.sleep(choice.uniform(0.1, 0.6) * (1.5 + math.sin(time.monotonic() / 8)))

    clients = [threading.Thread(target=client, args=(seed,)) for seed in range(4)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()


def check_data(server, where, expression, nan=False):
    found = server.query(expression)
    if not found:
        return f"{where}: no data: {expression}"
    if not nan and all(math.isnan(float(sample["value"][1])) for sample in found):
        return f"{where}: not a number: {expression}"
    return None


def test_every_expression_has_data(case):
    redis = Redis(case)
    registry = origin.Registry(case)
    proxy, metered = faults.FaultProxy(case, registry.port), Metered(case)
    cache = sluice.Sluice(case, config=config(redis, proxy.url, metered.url))
    server = prometheus.Prometheus(case, {"sluice": cache.admin_port}, sorted(RULES.glob("*.yml")))
    started = time.time()
    traffic(case, cache, metered, float(os.environ.get("SLUICE_E2E_BOARD_SECONDS", "0")))
    pull(case, cache, proxy, metered)
    now = time.time()
    cases.poll("what happened was scraped and evaluated", lambda: server.scraped_since("sluice", now), interval=0.2)

    wrong, count = [], 0
    for panel in panels():
        for target in panel["targets"]:
            count += 1
            if panel["title"] in ONLY_WITH_TLS:
                server.query(substituted(target["expr"]))  # parses
                continue
            wrong.append(check_data(server, panel["title"], substituted(target["expr"]), panel["title"] in MAY_BE_NAN))
    for note in board()["annotations"]["list"]:
        wrong.append(check_data(server, f"annotation {note['name']}", substituted(note["expr"])))
    for name in rules("record"):
        wrong.append(check_data(server, "record", name))
    for name, expression in rules("alert").items():
        server.query(expression)  # parses
        selectors = re.findall(r"(?:sluice_|process_|job_instance:|up\b)[a-z0-9_:]*(?:\{[^}]*\})?", expression)
        assert selectors, expression
        wrong += [check_data(server, f"alert {name}", selector) for selector in selectors]
    wrong = [text for text in wrong if text]
    assert not wrong, "\n".join(wrong)
    draw(case, server, started, time.time())
    case.say(f"{count} expressions of {len(panels())} panels, {len(rules('alert'))} alerts")

    wanted = {"SluiceDigestMismatch": "firing", "SluiceUpstreamDown": "pending", "SluiceDown": "inactive",
              "SluiceReloadRefused": "inactive"}
    cases.poll("the alerts are in their states", lambda: wanted.items() <= {
        name: rule["state"] for name, rule in evaluated(server).items() if "state" in rule}.items(), interval=0.2)


def draw(case, server, start, end):
    """The board as a picture, and its first rows alone, which are docs/dashboard.svg; fails where a panel has nothing to
    show."""
    step = max(1, (end - start) / 60)

    @functools.cache  # for both pictures
    def ask(expression):
        # A minute where the machine was too busy for a scrape before and one after what happened.
        for interval in (f"{max(10, int(4 * step))}s", "1m"):
            found = server.query_range(substituted(expression, interval), start, end, step)
            if any(points for _, points in found):
                break
        return found

    for name, rows in (("dashboard", None), ("dashboard-first-rows", 2)):
        drawing = picture.Picture(ask, start, end)
        path = case.fixtures / f"{name}.svg"
        path.write_text(drawing.draw(board(), rows))
        assert set(drawing.empty) <= ONLY_WITH_TLS, f"empty: {drawing.empty}"
        case.say(f"{path}: {path.stat().st_size} bytes")


def evaluated(server):
    """The rules by name, none of which has failed."""
    found = {rule["name"]: rule for group in server.api("rules")["groups"] for rule in group["rules"]}
    broken = [f"{name}: {rule.get('lastError')}" for name, rule in found.items() if rule["health"] == "err"]
    assert not broken, broken
    return found


# --- how Grafana comes to it -----------------------------------------------------------------------------------------


def mounted(service, path):
    """The file or folder of docker/ that the service sees as `path`."""
    for volume in service["volumes"]:
        source, target, *_ = volume.split(":")
        if source.startswith("./") and pathlib.PurePath(path).is_relative_to(target):
            return ROOT / "docker" / source / pathlib.PurePath(path).relative_to(target)
    raise AssertionError(f"{path} is not mounted")


def test_grafana_is_led_to_the_board(case):
    """compose.yml and the provisioning agree with one another. Grafana itself is not here: Debian has no package of it."""
    try:
        import yaml
    except ImportError:
        case.skip("python3-yaml is not installed")
    services = yaml.safe_load((ROOT / "docker/compose.yml").read_text())["services"]
    grafana = services["grafana"]
    home = mounted(grafana, grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home.samefile(BOARD), home
    # Where Grafana looks by itself.
    provisioned = mounted(grafana, "/etc/grafana/provisioning")
    provider, = yaml.safe_load((provisioned / "dashboards/sluice.yml").read_text())["providers"]
    assert provider["type"] == "file" and mounted(grafana, provider["options"]["path"]).samefile(BOARD.parent), provider
    source, = yaml.safe_load((provisioned / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["type"] == "prometheus" and source["isDefault"], source
    url = grafana["environment"][re.fullmatch(r"\$\{(\w+)\}", source["url"])[1]]
    assert re.fullmatch(r"http://(\w+):9090", url)[1] in services, url

    scraping = yaml.safe_load((ROOT / "docker/prometheus/prometheus.yml").read_text())
    # $__rate_interval is four times that: with another value the panels have holes.
    assert source["jsonData"]["timeInterval"] == scraping["global"]["scrape_interval"]
    job, = [each for each in scraping["scrape_configs"] if each["job_name"] == "sluice"]
    (name, port), = [target.split(":") for target in job["static_configs"][0]["targets"]]
    settings = services[name]["environment"]
    assert settings["SLUICE_ADMIN_LISTEN"] == f":{port}" and settings["SLUICE_ADMIN_HOSTS"] == name, settings


# --- the model -------------------------------------------------------------------------------------------------------


def test_dashboard_is_what_its_source_makes(case):
    case.run("python3", "-B", ROOT / "docker/grafana/board.py", "--check")


def test_dashboard_rules(case):
    """What Grafana's dashboard-linter checks, and a bit more."""
    model = board()
    assert model["uid"] == "sluice-overview" and model["editable"] is False and model["title"]
    variables = {variable["name"]: variable for variable in model["templating"]["list"]}
    assert list(variables)[:4] == ["datasource", "job", "instance", "upstream"]
    assert variables["datasource"]["type"] == "datasource" and variables["datasource"]["query"] == "prometheus"
    for name in ("job", "instance", "upstream"):
        variable = variables[name]
        assert variable["multi"] and variable["includeAll"] and variable["allValue"] == ".+", name
        assert variable["refresh"] == 2, f"{name} is not read again when the time range changes"
        assert variable["datasource"]["uid"] == "${datasource}", name
    everything = panels()
    rows = [panel["title"] for panel in model["panels"] if panel["type"] == "row"]
    assert [row.partition(":")[0] for row in rows] == ["Answer", "Clients", "Fills", "Upstreams", "Store", "Descriptors",
                                                      "Process"]
    assert len({panel["id"] for panel in model["panels"]}) == len(model["panels"])
    wrong = [f"{panel['title']}: {fault}" for panel in everything for fault in faults_of(panel)]
    assert not wrong, "\n".join(wrong)
    titles = [panel["title"] for panel in everything]
    assert len(set(titles)) == len(titles), "two panels with one title"
    assert_no_overlap(model["panels"])
    pages = {page for panel in everything for page in re.findall(r"docs/runbooks/\w+\.md", panel["description"])}
    assert all((ROOT / page).exists() for page in pages), pages


def faults_of(panel):
    if not panel["title"] or len(panel["description"]) < 30:
        yield "no title, or no description of what to do"
    if not panel["fieldConfig"]["defaults"]["unit"]:
        yield "no unit"
    if panel["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
        yield "not the data source of the variable"
    if not panel["targets"]:
        yield "no targets"
    for target in panel["targets"]:
        yield from faults_of_expression(target["expr"])
        if target["datasource"]["uid"] != "${datasource}":
            yield "a target with a data source of its own"


def faults_of_expression(expression):
    for selector in re.findall(r"[a-z_:]+\{([^}]*)\}", expression):
        if 'job=~"$job"' not in selector or 'instance=~"$instance"' not in selector:
            yield f"without job and instance: {selector}"
    for metric in re.findall(r"\b(?:sluice|process)_[a-z0-9_]+\b(?!\{)", expression):
        yield f"{metric} without a selector"
    for function, _, window in re.findall(r"\b(rate|irate|increase)\((\w+)\{[^}]*\}\[([^\]]+)\]", expression):
        if window not in ("$__rate_interval", "$__range"):
            yield f"{function} over {window}"
    # Counters only grow: what is shown is how fast.
    for counter in re.findall(r"(?<![\w(])\w+_total\{[^}]*\}(?!\[)", expression):
        yield f"a counter without rate or increase: {counter}"


def assert_no_overlap(everything):
    taken = {}
    for panel in everything:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies over {taken[x, y]}"
                taken[x, y] = panel["title"]


def test_picture_of_the_docs_is_of_this_board(case):
    """docs/dashboard.svg shows the first two rows."""
    shown = board()["panels"]
    third = [index for index, panel in enumerate(shown) if panel["type"] == "row"][2]
    text = html.unescape((ROOT / "docs/dashboard.svg").read_text())
    stale = [panel["title"] for panel in shown[:third] if panel["type"] != "row"
             and not (panel["title"] in text and panel["description"] in text)]
    assert not stale, f"draw docs/dashboard.svg anew (tests/e2e/README.md): {stale}"
