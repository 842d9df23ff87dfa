"""The rules of docker/prometheus: each alert fires on what it is for and stays silent on what is well, and has a page
that says what to do."""

import pathlib
import re
import shutil

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = ROOT / "docker/prometheus/rules"
RUNBOOKS = ROOT / "docs/runbooks"


def need(case, program):
    if not shutil.which(program):
        case.skip(f"{program} is not installed")


def rules(kind):
    """{name: expression} of the rules; `kind` is alert or record. The files keep to one layout, so no YAML is needed."""
    out = {}
    for path in sorted(RULES.glob("*.yml")):
        for block in re.split(r"\n      - (?=alert:|record:)", path.read_text())[1:]:
            name = re.match(rf"{kind}: (\S+)", block)
            if not name:
                continue
            expression = re.search(r"\n        expr: (?:>-\n((?:          .*\n?)+)|(.*))", block)
            out[name[1]] = " ".join((expression[1] or expression[2]).split())
    return out


def histogram(name, labels, bounds, slow_from, per_minute, minutes):
    """A histogram into which everything is slower than the bounds before `slow_from`."""
    out = {}
    reached = False
    for bound in (*bounds, "+Inf"):
        reached = reached or bound == slow_from
        out[f'{name}_bucket{{{labels}, le="{bound}"}}'] = f"0+{per_minute if reached else 0}x{minutes}"
    out[f"{name}_count{{{labels}}}"] = f"0+{per_minute}x{minutes}"
    return out


def simple(metric, bad, good, labels=""):
    return ({f"{metric}{{{labels}}}": bad}, {f"{metric}{{{labels}}}": good})


HUB = 'upstream="docker.io", source="me"'
HIT = 'kind="blob", result="hit"'
AGE = "sluice_store_eviction_age_seconds"
RATIO = "job_instance:sluice_blob_hit:ratio_rate1h{}"

# Alert: (when, (series where it fires, series where it does not), the labels that it has besides job and instance).
CASES = {
    "SluiceDown": ("5m", simple("up", "0x30", "1x30"), {}),
    "SluiceNotUsed": ("2h", (
        {"sluice_blob_requests_total{result=\"hit\"}": "5x200", "sluice_manifest_requests_total{}": "3x200",
         "process_start_time_seconds{}": "0x200"},
        {"sluice_blob_requests_total{result=\"hit\"}": "0+1x200", "sluice_manifest_requests_total{}": "3x200",
         "process_start_time_seconds{}": "0x200"}), {}),
    "SluiceUpstreamDown": ("10m", simple("sluice_upstream_up", "0x30", "1x30", 'upstream="docker.io"'),
                           {"upstream": "docker.io"}),
    "SluiceLoginRefused": ("20m", simple("sluice_upstream_login_refused", "1x30", "0x30", 'upstream="docker.io"'),
                           {"upstream": "docker.io"}),
    "SluiceServingStale": ("30m", simple("sluice_manifest_requests_total", "0+1x60", "4x60",
                                         'upstream="docker.io", result="stale"'), {"upstream": "docker.io"}),
    "SluiceHubBudgetLow": ("30m", (
        {f"sluice_upstream_ratelimit_remaining{{{HUB}}}": "5x60", f"sluice_upstream_ratelimit_limit{{{HUB}}}": "100x60"},
        {f"sluice_upstream_ratelimit_remaining{{{HUB}}}": "80x60",
         f"sluice_upstream_ratelimit_limit{{{HUB}}}": "100x60"}), {"upstream": "docker.io", "source": "me"}),
    "SluiceHitRatioDropped": ("25h30m", (
        {RATIO: "0.9x1440 0.3x200", "job_instance:sluice_requests:rate5m{}": "1x1640"},
        {RATIO: "0.9x1640", "job_instance:sluice_requests:rate5m{}": "1x1640"}), {}),
    "SluiceAmplification": ("60m", (
        {"job_instance:sluice_amplification:ratio_increase6h{}": "1.3x90",
         "sluice_fill_stored_bytes_total{upstream=\"docker.io\"}": "0+1000000000x90"},
        {"job_instance:sluice_amplification:ratio_increase6h{}": "1x90",
         "sluice_fill_stored_bytes_total{upstream=\"docker.io\"}": "0+1000000000x90"}), {}),
    "SluiceDigestMismatch": ("15m", simple("sluice_fill_digest_mismatches_total", "0x10 1x30", "1x40"), {}),
    "SluiceDamagedAtRest": ("30m", simple("sluice_scrub_damaged_total", "0x10 2x30", "2x40"), {}),
    "SluiceStoreThrashing": ("8h", (histogram(AGE, "", (3600, 86400, 604800), 3600, 10, 600),
                                    histogram(AGE, "", (3600, 86400, 604800), 604800, 10, 600)), {}),
    "SluiceDiskFull": ("80m", (
        {"sluice_store_filesystem_available_bytes{}": "100000000000-1000000000x90",
         "sluice_store_filesystem_size_bytes{}": "1000000000000x90"},
        # Falls as fast, with half of the disk free.
        {"sluice_store_filesystem_available_bytes{}": "500000000000-1000000000x90",
         "sluice_store_filesystem_size_bytes{}": "1000000000000x90"}), {}),
    "SluiceStoreDegraded": ("10m", simple("sluice_store_degraded", "1x30", "0x30", 'reason="no_space"'),
                            {"reason": "no_space"}),
    "SluiceSlowFirstByte": ("40m", (
        histogram("sluice_http_first_byte_seconds", HIT, (0.1, 0.5), 0.5, 60, 60),
        histogram("sluice_http_first_byte_seconds", HIT, (0.1, 0.5), 0.1, 60, 60)), {}),
    "SluiceQueueWait": ("30m", (
        histogram("sluice_upstream_wait_seconds", 'upstream="docker.io"', (5, 10), 10, 10, 60),
        histogram("sluice_upstream_wait_seconds", 'upstream="docker.io"', (5, 10), 5, 10, 60)),
        {"upstream": "docker.io"}),
    # promtool's clock starts at 1970. A gauge of 0 means plain HTTP.
    "SluiceCertificateExpires": ("5m", simple("sluice_tls_certificate_expires_seconds", "86400x20", "0x20"), {}),
    "SluiceReloadRefused": ("10m", simple("sluice_config_last_reload_successful", "0x30", "1x30"), {}),
    "SluiceDescriptorsNearLimit": ("10m", (
        {"process_open_fds{}": "900x30", "process_max_fds{}": "1000x30"},
        {"process_open_fds{}": "100x30", "process_max_fds{}": "1000x30"}), {}),
    "SluiceRedisBreakerOpen": ("30m", simple("sluice_descriptor_redis_breaker_open", "1x60", "0x60"), {}),
}
# The other half of alerts that have two: a budget that is not low yet, but will be spent before the limit resets.
MORE = [("SluiceHubBudgetLow", "60m", (
    {f"sluice_upstream_ratelimit_remaining{{{HUB}}}": "80-1x90", f"sluice_upstream_ratelimit_limit{{{HUB}}}": "100x90"},
    {f"sluice_upstream_ratelimit_remaining{{{HUB}}}": "80x90", f"sluice_upstream_ratelimit_limit{{{HUB}}}": "100x90"}),
    {"upstream": "docker.io", "source": "me"}),
    ("SluiceCertificateExpires", "5m",
     simple("sluice_tls_certificate_expires_seconds", "86400x20", "864000x20"), {}),
    # A client that asks for what the account may not read, and pulls that go well before and after: no alert.
    ("SluiceLoginRefused", "30m",
     simple("sluice_upstream_login_refused", "0x10 1x30", "0x10 1x5 0x30", 'upstream="docker.io"'),
     {"upstream": "docker.io"})]


def of_instance(series, instance):
    """The series with job and instance among its labels."""
    name, _, labels = series.partition("{")
    rest = labels.rstrip("}").strip().strip(",").strip()
    return f'{name}{{job="sluice", instance="{instance}"{", " + rest if rest else ""}}}'


def promtool_test(alert, when, fires_and_not, labels, severity):
    lines = ["  - interval: 1m", "    input_series:"]
    for instance, series in zip(("bad:5001", "good:5001"), fires_and_not):
        for name, values in series.items():
            lines += [f"      - series: '{of_instance(name, instance)}'", f"        values: '{values}'"]
    lines += ["    alert_rule_test:", f"      - alertname: {alert}", f"        eval_time: {when}", "        exp_alerts:"]
    expected = {"job": "sluice", "instance": "bad:5001", "severity": severity, **labels}
    lines.append("          - exp_labels:")
    lines += [f"              {name}: '{value}'" for name, value in expected.items()]
    return lines


def test_each_fires_and_does_not(case):
    need(case, "promtool")
    names = rules("alert")
    assert set(CASES) == set(names), f"without a case or without a rule: {set(CASES) ^ set(names)}"
    text = (RULES / "sluice.alerts.yml").read_text()
    case.run("promtool", "check", "rules", *sorted(RULES.glob("*.yml")))
    # The texts are templates of values that do not matter here; promtool would want them word for word.
    bare = re.sub(r"        annotations:\n(?:          .*\n)+", "", text)
    severities = dict(re.findall(r"- alert: (\S+)\n[\s\S]*?severity: (\w+)", text))
    case.file("alerts.yml", bare)
    cases = [*((name, *rest) for name, rest in CASES.items()), *MORE]
    case.run("promtool", "test", "rules", promtool_tests(case, cases, severities))
    # And it can fail: a rule that never fires does not pass.
    case.file("alerts.yml", bare.replace("sluice_upstream_up == 0", "sluice_upstream_up == 7"))
    down = promtool_tests(case, [("SluiceUpstreamDown", *CASES["SluiceUpstreamDown"])], severities)
    assert case.run("promtool", "test", "rules", down, check=False).returncode != 0


def promtool_tests(case, cases, severities):
    lines = ["rule_files: [alerts.yml]", "evaluation_interval: 5m", "tests:"]
    for alert, when, series, labels in cases:
        lines += promtool_test(alert, when, series, labels, severities[alert])
    return case.file("alerts.test.yml", "\n".join(lines) + "\n")


def test_each_has_a_page(case):
    alerts = rules("alert")
    text = (RULES / "sluice.alerts.yml").read_text()
    pages = {path.stem for path in RUNBOOKS.glob("Sluice*.md")}
    assert pages == set(alerts), f"alerts without a page, or pages without an alert: {pages ^ set(alerts)}"
    for name in alerts:
        block = text.split(f"- alert: {name}\n")[1].split("- alert:")[0]
        assert re.search(rf"runbook_url: \S*docs/runbooks/{name}\.md\n", block), f"{name} names another page"
        assert "summary:" in block and "description:" in block and "severity:" in block, name
        page = (RUNBOOKS / f"{name}.md").read_text()
        missing = [head for head in ("# " + name, "## What it means", "## How to look", "## What to do")
                   if head + "\n" not in page]
        assert not missing, f"{name}.md lacks {missing}"
    linked = set(re.findall(r"\((Sluice\w+)\.md\)", (RUNBOOKS / "README.md").read_text()))
    assert linked == pages, f"docs/runbooks/README.md lists {linked ^ pages} wrongly"
