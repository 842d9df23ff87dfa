"""Debian's Prometheus, scraping what a test runs."""

import json
import math
import shutil
import urllib.error
import urllib.parse
import urllib.request

from harness import case as cases
from harness import client


class Prometheus:
    """`targets`: {job: port}; `rules`: files of rules, evaluated as often as is scraped."""

    def __init__(self, case, targets, rules=()):
        if not shutil.which("prometheus"):
            case.skip("prometheus is not installed")
        self.port = case.port()
        home = case.folder("prometheus")
        lines = ["global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }", "rule_files:"]
        lines += [f"  - {path}" for path in rules] or ["  []"]
        lines.append("scrape_configs:")
        for job, port in targets.items():
            lines += [f"  - job_name: {job}", f"    static_configs: [{{ targets: ['127.0.0.1:{port}'] }}]"]
        config = home / "prometheus.yml"
        config.write_text("\n".join(lines) + "\n")
        self.process = case.spawn("prometheus", [
            "prometheus", f"--config.file={config}", f"--storage.tsdb.path={home / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"])
        self.process.wait_for_port(self.port)
        cases.poll("Prometheus is ready", lambda: client.request(self.port, "/-/ready").status == 200)
        cases.poll("every target was scraped", lambda: all(
            any(float(sample["value"][1]) == 1 for sample in self.query(f'up{{job="{job}"}}')) for job in targets))

    def api(self, path, **parameters):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(url, timeout=20) as answer:
                body = json.load(answer)
        except urllib.error.HTTPError as error:  # 400 and 422 say what is wrong with the expression
            body = json.load(error)
        assert body["status"] == "success", f"{path} {parameters}: {body.get('error')}"
        return body["data"]

    def query(self, expression):
        """The samples of an instant query; fails where the expression does not parse."""
        data = self.api("query", query=expression)
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        return data["result"]

    def query_range(self, expression, start, end, step):
        """[(labels, [(moment, value)…])…]; what is not a number is left out."""
        found = self.api("query_range", query=expression, start=start, end=end, step=step)["result"]
        return [({name: value for name, value in series["metric"].items() if name != "__name__"},
                 [(moment, float(value)) for moment, value in series["values"] if math.isfinite(float(value))])
                for series in found]

    def scraped_since(self, job, moment):
        """Whether a scrape that began after `moment` (seconds since 1970) is there, and was evaluated."""
        found = self.query(f'timestamp(up{{job="{job}"}})')
        return bool(found) and float(found[0]["value"][1]) > moment + 1
