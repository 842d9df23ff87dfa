#!/usr/bin/env python3
"""The source of dashboards/sluice.json: run it after a change, it writes that file. --check only compares.

Grafana's classic dashboard model. Each panel has a unit, and a description that says what to do about what it shows.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
TARGET = HERE / "dashboards" / "sluice.json"

S = 'job=~"$job", instance=~"$instance"'
U = S + ', upstream=~"$upstream"'
R = "$__rate_interval"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

GREEN, YELLOW, RED = "green", "yellow", "red"

# One colour for each result, on every panel: what upstream was spared is green, what it had to do blue, what failed red.
RESULTS = {"hit": "green", "join": "light-green", "stale": "yellow", "miss": "blue", "range": "purple", "none": "text",
           "unknown": "super-light-orange", "denied": "orange", "error": "red"}
CHECKS = {"unchanged": "green", "moved": "blue", "added": "purple", "gone": "super-light-orange", "denied": "orange",
          "failed": "red"}


def steps(*pairs):
    """Thresholds: a colour from the start, then (value, colour)…"""
    first, *rest = pairs
    return {"mode": "absolute", "steps": [{"color": first, "value": None},
                                          *({"color": color, "value": value} for value, color in rest)]}


def colored(colors):
    return [{"matcher": {"id": "byName", "options": name},
             "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}]}
            for name, color in colors.items()]


def words(*texts):
    """Shows words in the place of the numbers 0, 1…"""
    return [{"type": "value", "options": {str(number): {"text": text, "index": number}
                                          for number, text in enumerate(texts)}}]


def target(expr, legend="", ref="A", **more):
    return {"datasource": SOURCE, "expr": expr, "legendFormat": legend or "__auto", "range": True, "refId": ref, **more}


def targets(*pairs):
    return [target(expr, legend, chr(ord("A") + i)) for i, (expr, legend) in enumerate(pairs)]


def panel(kind, title, description, unit, queries, width, height, thresholds=None, **defaults):
    options = defaults.pop("options", {})
    custom = defaults.pop("custom", {})
    colors = defaults.pop("colors", {})
    return {"type": kind, "title": title, "description": description, "datasource": SOURCE, "targets": queries,
            "gridPos": {"w": width, "h": height}, "options": options,
            "fieldConfig": {"defaults": {"unit": unit, "custom": custom, "thresholds": thresholds or steps(GREEN),
                                         **defaults}, "overrides": colored(colors)}}


def stat(title, description, unit, expr, thresholds=None, width=4, text="auto", legend="", **defaults):
    return panel("stat", title, description, unit, [target(expr, legend)], width, 5, thresholds,
                 options={"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
                          "colorMode": "value", "graphMode": "area", "textMode": text}, **defaults)


def graph(title, description, unit, *queries, width=8, stack=False, **defaults):
    defaults.setdefault("min", 0)
    custom = {"lineWidth": 1, "fillOpacity": 25 if stack else 8, "showPoints": "never",
              "stacking": {"mode": "normal" if stack else "none", "group": "A"}}
    return panel("timeseries", title, description, unit, targets(*queries), width, 8,
                 options={"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                          "tooltip": {"mode": "multi", "sort": "desc"}}, custom=custom, **defaults)


def heatmap(title, description, expr, width=8):
    query = target(expr, "{{le}}", format="heatmap")
    return panel("heatmap", title, description, "short", [query], width, 8,
                 options={"calculate": False, "cellGap": 1, "color": {"mode": "scheme", "scheme": "Blues", "steps": 64},
                          "yAxis": {"unit": "s"}, "legend": {"show": True}, "tooltip": {"show": True}})


def quantiles(metric, selector, by="le"):
    return [(f"histogram_quantile({q}, sum by ({by}) (rate({metric}_bucket{{{selector}}}[{R}])))", f"p{name}")
            for q, name in ((0.5, "50"), (0.95, "95"), (0.99, "99"))]


def first_byte(result):
    return quantiles("sluice_http_first_byte_seconds", f'{S}, kind="blob", result="{result}"')


def served(results):
    return " + ".join(f'sum(increase(sluice_{kind}_requests_total{{{U}, result=~"{results}"}}[$__range]))'
                      for kind in ("blob", "manifest"))


SERVED = "hit|join|stale"
COUNTED = "hit|join|stale|miss|range|error"
HUB = f'{S}, upstream=~"$upstream"'


def answer():
    sent = f"sum(increase(sluice_client_sent_bytes_total{{{U}}}[$__range]))"
    received = f"sum(increase(sluice_fill_received_bytes_total{{{U}}}[$__range]))"
    saved = f"{sent} - {received}"
    left = f"sluice_upstream_ratelimit_remaining{{{HUB}}}"
    return [
        stat("Byte hit ratio", "Share of the bytes sent to clients, in the time shown, that upstream did not have to send. "
             "Low: the store is too small (see Store: eviction age), or every client pulls something else.", "percentunit",
             f"clamp_min(1 - {received} / {sent}, 0)",
             steps(RED, (0.3, YELLOW), (0.6, GREEN)), min=0, max=1),
        stat("Object hit ratio", "Share of the requests, in the time shown, that needed no download of their own. If it "
             "falls while the byte hit ratio stays, many small things are new: look at Manifest requests.", "percentunit",
             f"({served(SERVED)}) / ({served(COUNTED)})", steps(RED, (0.3, YELLOW), (0.6, GREEN)), min=0, max=1),
        stat("Upstream bytes saved", "What clients got and upstream did not send, in the time shown. Negative: more was "
             "fetched than asked for; see Fills: amplification.", "bytes", saved),
        stat("Money saved", "The bytes saved at the price in the variable price_per_gb. Set that to what a gigabyte of "
             "your way out costs.", "currencyUSD", f"({saved}) / 1e9 * $price_per_gb"),
        stat("Hub pulls left", "What is left of the pulls that upstream allows, as it said last. Near 0: log in, or raise "
             "tags.ttl. No data: the upstream in the variable has no limit.", "short", f"min({left})",
             steps(RED, (10, YELLOW), (50, GREEN)), noValue="no limit"),
        stat("Hub budget spent in", "At the pace of the last hour. Shorter than the window of the limit (six hours on "
             "Docker Hub): pulls will fail; log in or spread the load.", "s",
             f"min({left} / clamp_min(-deriv({left}[1h]), 1e-6))", steps(RED, (3600, YELLOW), (21600, GREEN)),
             noValue="no limit"),
        stat("Upstreams down", "Upstreams that do not answer. What is cached is served all the same; everything else fails "
             "until they are back. See docs/runbooks/SluiceUpstreamDown.md.", "short",
             f"sum(sluice_upstream_up{{{U}}} == bool 0)", steps(GREEN, (1, RED)), width=5),
        stat("Logins refused", "Upstreams that refuse the login that sluice has configured for them. Clients get 401 or 403 "
             "for what is private there. See docs/runbooks/SluiceLoginRefused.md.", "short",
             f"sum(sluice_upstream_login_refused{{{U}}})", steps(GREEN, (1, RED)), width=5),
        stat("Stale answers", "Tags that were served without asking upstream, which did not answer. Anything above 0 means "
             "that clients may get an older image than the registry has.", "reqps",
             f'sum(rate(sluice_manifest_requests_total{{{U}, result="stale"}}[{R}]))',
             steps(GREEN, (0.001, YELLOW)), width=5),
        stat("Requests", "Pulls as the cache sees them. 0 for an hour: no client is configured to use it, or all of them "
             "silently go past it. See docs/runbooks/SluiceNotUsed.md.", "reqps",
             f"sum(rate(sluice_blob_requests_total{{{U}}}[{R}])) + sum(rate(sluice_manifest_requests_total{{{U}}}[{R}]))",
             width=5),
        stat("Version", "What runs, and how many of each. More than one version: a roll-out is not finished.", "short",
             f"count by (version) (sluice_build_info{{{S}}})", width=4, text="name", legend="{{version}}"),
    ]


def clients():
    out = []
    for kind in ("blob", "manifest"):
        out.append(graph(
            f"{kind.capitalize()} requests by result", "hit, join and stale cost upstream nothing. Many of error: see "
            "Errors by reason. Many of unknown: a client asks for what does not exist.", "reqps",
            (f"sum by (result) (rate(sluice_{kind}_requests_total{{{U}}}[{R}]))", "{{result}}"), stack=True,
            colors=RESULTS))
    out.append(graph("List requests by result", "Tags, referrers and the catalog. Many of them: a tool polls; tags.ttl "
                     "says how often upstream is asked.", "reqps",
                     (f"sum by (result) (rate(sluice_list_requests_total{{{U}}}[{R}]))", "{{result}}"), stack=True,
                     colors=RESULTS))
    what = {"hit": "From the store: milliseconds. Slow: the disk is busy or the loops are (see Process: loop lag).",
            "join": "From a download in flight. Slow: upstream is slow to begin; see Upstreams: latency.",
            "miss": "Upstream is asked first. Slow: see Upstreams: latency and queue wait."}
    for result, description in what.items():
        out.append(graph(f"First byte of blobs: {result}", description, "s", *first_byte(result)))
    out.append(heatmap("First byte of all requests", "Two bands are right: hits near the bottom, misses above. A third band "
                       "at seconds is a queue: see Upstreams: queue wait.",
                       f"sum by (le) (increase(sluice_http_first_byte_seconds_bucket{{{S}}}[{R}]))"))
    out.append(graph("Request duration by kind, p95", "With the body, so it follows the clients' own lines too. Rising while "
                     "the first byte is fast: the network to the clients is full.", "s",
                     (f"histogram_quantile(0.95, sum by (le, kind) "
                      f"(rate(sluice_http_request_duration_seconds_bucket{{{S}}}[{R}])))", "{{kind}}")))
    out.append(graph("Bandwidth", "Out to clients, in from upstream, and what of the first came from the store. In above out "
                     "for long: downloads that nobody reads to the end (fill.abandoned).", "binBps",
                     (f"sum(rate(sluice_client_sent_bytes_total{{{U}}}[{R}]))", "to clients"),
                     (f"sum(rate(sluice_cache_sent_bytes_total{{{U}}}[{R}]))", "of that from the store"),
                     (f"sum(rate(sluice_fill_received_bytes_total{{{U}}}[{R}]))", "from upstream")))
    out.append(graph("Errors by reason", "error: upstream gave no answer. denied: it refuses our login. broken off: a client "
                     "left. timeouts and parse errors: clients that misbehave, or a port scan.", "reqps",
                     (f'sum by (result) (rate(sluice_blob_requests_total{{{U}, result=~"error|denied"}}[{R}]))',
                      "blob {{result}}"),
                     (f'sum by (result) (rate(sluice_manifest_requests_total{{{U}, result=~"error|denied"}}[{R}]))',
                      "manifest {{result}}"),
                     (f'sum(rate(sluice_http_broken_off_total{{{S}, listener="registry"}}[{R}]))', "broken off"),
                     (f'sum by (kind) (rate(sluice_http_timeouts_total{{{S}, listener="registry"}}[{R}]))',
                      "{{kind}} timeout"),
                     (f'sum(rate(sluice_http_parse_errors_total{{{S}, listener="registry"}}[{R}]))', "parse errors"),
                     width=12))
    out.append(graph("Connections", "Against the limit server.max_connections; beyond it clients get 503 and go past the "
                     "cache. Near the limit: raise it, and the limit of descriptors with it.", "short",
                     (f'sum by (instance) (sluice_http_connections{{{S}, listener="registry"}})', "open {{instance}}"),
                     (f'sum by (instance) (sluice_http_max_connections{{{S}, listener="registry"}})',
                      "limit {{instance}}"), width=12))
    return out


def fills():
    # Over the time shown: of a large blob that is on its way much was received and nothing is stored yet.
    received = f'sum(increase(sluice_fill_received_bytes_total{{{U}, kind!="range"}}[$__range]))'
    return [
        graph("Fills in flight", "Downloads from upstream and who reads them. Many fills with few readers: clients pull "
              "different images; many readers a fill: the cache does its work.", "short",
              (f"sum(sluice_fills_in_flight{{{S}}})", "fills"), (f"sum(sluice_fill_readers{{{S}}})", "readers")),
        graph("Readers of a fill", "How many clients shared one download. Above 1 is what plain proxies lose.", "short",
              (f"sum(rate(sluice_fill_readers_per_fill_sum{{{S}}}[{R}])) / "
               f"sum(rate(sluice_fill_readers_per_fill_count{{{S}}}[{R}]))", "mean"),
              # Whole numbers: between two bounds of the histogram there is nothing.
              (f"ceil(histogram_quantile(0.95, sum by (le) (rate(sluice_fill_readers_per_fill_bucket{{{S}}}[{R}]))))",
               "p95")),
        graph("Amplification", "Bytes received for each byte stored, without ranges, in the time shown. 1.00 is the promise. "
              "Above 1.05: downloads fail or are given up after much was received. "
              "See docs/runbooks/SluiceAmplification.md.", "none",
              (f"{received} / sum(increase(sluice_fill_stored_bytes_total{{{U}}}[$__range]))", "received ÷ stored")),
        graph("Time under back-pressure", "Share of the time of fills that waits for readers. High is no fault of the cache: "
              "clients read slower than upstream sends.", "percentunit",
              (f"sum(rate(sluice_fill_backpressure_wait_seconds_total{{{S}}}[{R}])) / "
               f"clamp_min(sum(avg_over_time(sluice_fills_in_flight{{{S}}}[{R}])), 0.001)", "waiting"), max=1),
        graph("Fill duration", "From the first request to the last byte, waiting for readers included.", "s",
              *quantiles("sluice_fill_duration_seconds", f'{S}, result="completed"')),
        graph("Fills by outcome", "failed: see the log for each. resumed: the connection broke and the fill went on. "
              "unstored: the disk refused it, see docs/runbooks/SluiceStoreDegraded.md.", "ops",
              (f"sum(rate(sluice_fills_completed_total{{{S}}}[{R}]))", "completed"),
              (f"sum(rate(sluice_fills_failed_total{{{S}}}[{R}]))", "failed"),
              (f"sum(rate(sluice_fills_resumed_total{{{S}}}[{R}]))", "resumed"),
              (f"sum(rate(sluice_fills_unstored_total{{{S}}}[{R}]))", "unstored")),
        graph("Digest mismatches", "Downloads whose bytes were not what was asked for. None was kept or served whole. Any: "
              "see docs/runbooks/SluiceDigestMismatch.md.", "short",
              (f"sum(increase(sluice_fill_digest_mismatches_total{{{S}}}[{R}]))", "mismatches"), width=12),
        graph("Range bytes", "Passed through to lazy pullers without being stored. Much for long: raise fill.range_limit or "
              "let it fetch whole blobs (fill.ranges).", "binBps",
              (asked(f"sum by (upstream) (rate(sluice_range_received_bytes_total{{{U}}}[{R}]))"), "{{upstream}}"),
              width=12),
    ]


def asked(expr, by="upstream"):
    """Of the upstreams that were asked in the time shown: most sites use few of those that are configured."""
    return (f"{expr} and on ({by}) sum by ({by}) (increase(sluice_upstream_requests_total{{{U}}}[$__range])) > 0")


def upstreams():
    return [
        graph("Latency, p95", "From the request to the head of upstream's answer. High for one: add an endpoint "
              "(upstreams.*.endpoints). High for all: the line or the proxy.", "s",
              (f"histogram_quantile(0.95, sum by (le, upstream) "
               f"(rate(sluice_upstream_request_seconds_bucket{{{U}}}[{R}])))", "{{upstream}}")),
        graph("Answers by status", "5xx and error count against the breaker, 429 is a spent limit, 401 beside 2xx is the "
              "ordinary way to a token.", "reqps",
              (asked(f"sum by (upstream, status) (rate(sluice_upstream_requests_total{{{U}}}[{R}]))", "upstream, status"),
               "{{upstream}} {{status}}")),
        graph("Queue wait, p95", "How long requests wait for one of the connections that upstreams.*.max_connections allows. "
              "Seconds: raise it, or turn prefetch down.", "s",
              (f"histogram_quantile(0.95, sum by (le, upstream) "
               f"(rate(sluice_upstream_wait_seconds_bucket{{{U}}}[{R}])))", "{{upstream}}")),
        graph("Endpoints", "1: in use. 0: its breaker is open, it is left alone and probed now and then.", "short",
              (asked(f"min by (upstream, endpoint) (sluice_upstream_endpoint_up{{{U}}})"), "{{upstream}} {{endpoint}}"),
              (asked(f"sum by (upstream) (increase(sluice_upstream_breaker_openings_total{{{U}}}[{R}]))"),
               "{{upstream}} breaker opened")),
        graph("429 and retries", "Upstream throttles us. Log in, raise tags.ttl, lower requests_per_second, or put a "
              "second cache between.", "reqps",
              (asked(f'sum by (upstream) (rate(sluice_upstream_requests_total{{{U}, status="429"}}[{R}]))'),
               "{{upstream}} 429"),
              (asked(f"sum by (upstream) (rate(sluice_upstream_retries_total{{{U}}}[{R}]))"), "{{upstream}} retried")),
        graph("Token requests", "Failures: a login is wrong or its realm is not trusted (realm_hosts). Many without "
              "failures: tokens of this upstream live short.", "reqps",
              (asked(f"sum by (upstream) (rate(sluice_upstream_token_requests_total{{{U}}}[{R}]))"), "{{upstream}}"),
              (asked(f"sum by (upstream) (rate(sluice_upstream_token_failures_total{{{U}}}[{R}]))"), "{{upstream}} failed")),
        graph("Tag checks", "What asking upstream about tags came to. Mostly unchanged: tags.ttl may be longer.", "reqps",
              (f"sum by (result) (rate(sluice_tag_checks_total{{{S}}}[{R}]))", "{{result}}"), stack=True, width=12,
              colors=CHECKS),
        graph("Rate limit", "Remaining and limit as upstream said last, by the address or login that it counts.", "short",
              (f"sum by (upstream, source) (sluice_upstream_ratelimit_remaining{{{U}}})",
               "{{upstream}} {{source}} left"),
              (f"sum by (upstream, source) (sluice_upstream_ratelimit_limit{{{U}}})", "{{upstream}} {{source}} limit"),
              width=12),
    ]


def store():
    return [
        graph("Used against the limit", "With the forecast of a day. At the limit is where a cache should be; what counts "
              "then is the eviction age.", "bytes",
              (f"sum by (instance) (sluice_store_bytes{{{S}}})", "used {{instance}}"),
              (f"sum by (instance) (sluice_store_max_bytes{{{S}}})", "limit {{instance}}"),
              # What would go past the limit is evicted.
              (f"sum by (instance) (predict_linear(sluice_store_bytes{{{S}}}[6h], 86400))"
               f" < sum by (instance) (sluice_store_max_bytes{{{S}}}) or sum by (instance) (sluice_store_max_bytes{{{S}}}) > 0"
               f" or sum by (instance) (predict_linear(sluice_store_bytes{{{S}}}[6h], 86400))",
               "in a day {{instance}}"), width=12),
        graph("File system", "What is left where the store lies. It falls below store.min_free only when something else "
              "fills the disk. See docs/runbooks/SluiceDiskFull.md.", "bytes",
              (f"sum by (instance) (sluice_store_filesystem_available_bytes{{{S}}})", "free {{instance}}"),
              (f"sum by (instance) (sluice_store_filesystem_size_bytes{{{S}}})", "size {{instance}}"), width=12),
        graph("Evictions by reason", "size and free: room was needed. age: nobody wanted it for store.max_age.", "ops",
              (f"sum by (reason) (rate(sluice_store_evicted_total{{{S}}}[{R}]))", "{{reason}}"), stack=True),
        graph("Eviction age", "How long ago the evicted blobs were last used. Under a day: what is evicted is wanted again "
              "tomorrow, so the disk is too small. Weeks: it is larger than it needs to be.", "s",
              *quantiles("sluice_store_eviction_age_seconds", S)[:2]),
        graph("Parts and quarantine", "Parts are interrupted downloads that are kept for resuming; quarantine is what was "
              "found damaged. Both go by themselves.", "bytes",
              (f"sum(sluice_parts_bytes{{{S}}})", "parts"),
              (f"sum(sluice_store_quarantine_bytes{{{S}}})", "quarantine")),
        stat("Age of the last full scrub", "How long ago every blob had been read again. Over two weeks: scrubbing is off, "
             "or store.scrub_rate is too low for this store. No scrub yet: counted from 1970.", "s",
             f"max(time() - sluice_scrub_last_pass_timestamp_seconds{{{S}}})",
             steps(GREEN, (1209600, YELLOW)), width=8),
        stat("Damaged at rest", "Blobs that the scrub found changed on the disk, in the time shown. Any: the disk or its "
             "cable fails. See docs/runbooks/SluiceDamagedAtRest.md.", "short",
             f"sum(increase(sluice_scrub_damaged_total{{{S}}}[$__range]))", steps(GREEN, (1, RED)), width=8),
        stat("New blobs", "Not stored: the disk refuses them, they pass through memory, and every pull asks upstream. "
             "See docs/runbooks/SluiceStoreDegraded.md.", "short",
             f"max(sluice_store_degraded{{{S}}})", steps(GREEN, (1, RED)), width=8,
             mappings=words("stored", "not stored")),
    ]


def descriptors():
    return [
        graph("Hits by provider", "Share of look-ups that each descriptor cache answered. Low for redis while memory is "
              "high is right.", "percentunit",
              (f"sum by (provider) (rate(sluice_descriptor_cache_hits_total{{{S}}}[{R}])) / "
               f"sum by (provider) (rate(sluice_descriptor_cache_requests_total{{{S}}}[{R}]))", "{{provider}}"), max=1),
        graph("Redis latency, p95", "Only with descriptors.cache: redis. Above redis.command_timeout it counts as failed; "
              "near it, look at Redis itself.", "s",
              (f"histogram_quantile(0.95, sum by (le, operation) "
               f"(rate(sluice_descriptor_redis_seconds_bucket{{{S}}}[{R}])))", "{{operation}}")),
        graph("Redis breaker and errors", "1 while Redis is left alone because it failed. The cache works without it, "
              "with more questions to upstream.", "short",
              (f"max by (instance) (sluice_descriptor_redis_breaker_open{{{S}}})", "open {{instance}}"),
              (f"sum(rate(sluice_descriptor_redis_errors_total{{{S}}}[{R}]))", "errors a second")),
    ]


def process():
    return [
        stat("Configuration", "Refused: the last reload found a mistake, and the log says which. An older one is in force. "
             "See docs/runbooks/SluiceReloadRefused.md.", "short",
             f"min(sluice_config_last_reload_successful{{{S}}})", steps(RED, (1, GREEN)), width=8,
             mappings=words("refused", "in force")),
        stat("Certificate expires in", "Of the listener. Renew it; the file is read again by itself.",
             "s", f"min(sluice_tls_certificate_expires_seconds{{{S}}} > 0) - time()",
             steps(RED, (604800, YELLOW), (1209600, GREEN)), width=8, noValue="plain HTTP"),
        stat("Up for", "Since the process started. Short again and again: it is being restarted; see the journal.", "s",
             f"min(time() - process_start_time_seconds{{{S}}})", width=8),
        graph("CPU", "In cores. At the number of event loops (server.threads) it is the bottleneck.", "short",
              (f"sum by (instance) (rate(process_cpu_seconds_total{{{S}}}[{R}]))", "{{instance}}"), width=6),
        graph("Memory", "Resident. It is bounded by connections, not by blobs; growth without more connections is a "
              "fault to report.", "bytes",
              (f"sum by (instance) (process_resident_memory_bytes{{{S}}})", "{{instance}}"), width=6),
        graph("File descriptors", "Against the limit (LimitNOFILE, --ulimit nofile). At the limit no connection is "
              "accepted. See docs/runbooks/SluiceDescriptorsNearLimit.md.", "short",
              (f"sum by (instance) (process_open_fds{{{S}}})", "open {{instance}}"),
              (f"sum by (instance) (process_max_fds{{{S}}})", "limit {{instance}}"), width=6),
        graph("Loop lag, p99", "How late the event loops get to their work. Above 100 ms: too little CPU (a container's "
              "limit), or a disk that blocks.", "s",
              (f"histogram_quantile(0.99, sum by (le) (rate(sluice_loop_lag_seconds_bucket{{{S}}}[{R}])))", "p99"), width=6),
    ]


ROWS = [("Answer: is it worth its machine", answer), ("Clients", clients), ("Fills", fills), ("Upstreams", upstreams),
        ("Store", store), ("Descriptors", descriptors), ("Process", process)]


def place(panels):
    """Gives every panel its id and its place, row by row, left to right."""
    x = y = line = 0
    for number, each in enumerate(panels, 1):
        each["id"] = number
        at = each["gridPos"]
        if x + at["w"] > 24:
            x, y, line = 0, y + line, 0
        at["x"], at["y"] = x, y
        x, line = x + at["w"], max(line, at["h"])
    return panels


def all_panels():
    out = []
    for title, make in ROWS:
        out.append({"type": "row", "title": title, "collapsed": False, "gridPos": {"w": 24, "h": 1}, "panels": []})
        out += make()
    return place(out)


def query_variable(name, label, query, **more):
    return {"name": name, "label": label, "type": "query", "datasource": SOURCE, "definition": query,
            "query": {"query": query, "refId": f"Variable-{name}"}, "refresh": 2, "sort": 1, "multi": True,
            "includeAll": True, "allValue": ".+", "hide": 0, "current": {"selected": True, "text": "All",
                                                                        "value": "$__all"}, **more}


def variables():
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1,
         "regex": "", "hide": 0, "multi": False, "includeAll": False, "current": {}},
        query_variable("job", "Job", "label_values(sluice_build_info, job)"),
        query_variable("instance", "Instance", 'label_values(sluice_build_info{job=~"$job"}, instance)'),
        query_variable("upstream", "Upstream",
                       'label_values(sluice_blob_requests_total{job=~"$job", instance=~"$instance"}, upstream)'),
        {"name": "price_per_gb", "label": "Price of a GB", "type": "textbox", "query": "0.09", "hide": 0,
         "current": {"selected": True, "text": "0.09", "value": "0.09"}},
    ]


def annotation(name, color, expr, title, **more):
    return {"name": name, "datasource": SOURCE, "enable": True, "hide": False, "iconColor": color, "expr": expr,
            "titleFormat": title, "step": "60s", **more}


def annotations():
    return [
        annotation("Restarts", "purple", f"process_start_time_seconds{{{S}}} * 1000", "Started: {{instance}}",
                   useValueForTime="on"),
        annotation("Reloads", "blue", f"sluice_config_last_reload_success_timestamp_seconds{{{S}}} * 1000",
                   "Configuration read: {{instance}}", useValueForTime="on"),
        annotation("Outages", "red", f"sluice_upstream_up{{{U}}} == 0", "{{upstream}} does not answer"),
    ]


def board():
    return {"uid": "sluice-overview", "title": "sluice", "description": "A pull-through cache for container registries: "
            "is it used, what does it save, and what is wrong.", "tags": ["sluice", "registry"], "editable": False,
            "schemaVersion": 38, "version": 1, "refresh": "30s", "time": {"from": "now-6h", "to": "now"},
            "timezone": "browser", "graphTooltip": 1, "annotations": {"list": annotations()},
            "templating": {"list": variables()}, "links": [], "panels": all_panels()}


def main():
    text = json.dumps(board(), indent=2, ensure_ascii=False) + "\n"
    if "--check" in sys.argv[1:]:
        if TARGET.read_text() != text:
            sys.exit(f"{TARGET} is not what {__file__} makes; run it")
        return
    TARGET.write_text(text)


if __name__ == "__main__":
    main()
