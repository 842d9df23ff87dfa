"""The program under test.

SLUICE_BINARY names it. With SLUICE_E2E_STANDIN=docker-registry a docker-registry in proxy mode takes its place: good
for trying the harness itself and for seeing which tests it fails.
"""

import os
import pathlib
import re
import shutil

from harness import case as cases
from harness import client, origin

STANDIN = os.environ.get("SLUICE_E2E_STANDIN", "")


def binary():
    path = os.environ.get("SLUICE_BINARY", "")
    if not path or not os.access(path, os.X_OK):
        raise AssertionError(f"SLUICE_BINARY={path!r} is not a program")
    return os.path.abspath(path)  # it runs in a folder of its own


class Sluice:
    """sluice on free ports with its data in the test's folder."""

    def __init__(self, case, upstream=None, config=None, options=()):
        self.case = case
        self.upstream = upstream
        self.port, self.admin_port = case.port(), case.port()
        self.home = case.folder(f"sluice-{self.port}")
        self.data = self.home / "data"
        self.work = self.home / "work"  # its working directory, which has to stay empty
        self.work.mkdir(exist_ok=True)
        self.options = list(options)
        if upstream:
            self.options += ["--upstream", upstream]
        if config:
            path = self.home / "sluice.yml"
            path.write_text(config)
            self.options += ["--config", str(path)]
        self.start()

    @property
    def arguments(self):
        return [binary(), "serve", "--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin_port}",
                "--data", str(self.data), *self.options]

    def start(self):
        if STANDIN == "docker-registry":
            self.data.mkdir(exist_ok=True)
            self.port = self.case.port()
            registry = origin.Registry(self.case, storage=self.data, writable=True, proxy_of=self.upstream)
            self.port, self.process = registry.port, registry.process
            return self
        self.process = self.case.spawn("sluice", self.arguments, self.environment(), self.work)
        cases.poll("sluice is ready", self._ready)
        return self

    @staticmethod
    def environment():
        """Nothing of the caller's SLUICE_* settings: they would be read as configuration."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
        return {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}

    def _ready(self):
        if not self.process.alive():
            raise AssertionError(f"sluice ended with {self.process.popen.returncode}:\n{self.process.log()[-3000:]}")
        try:
            return client.request(self.admin_port, "/readyz", timeout=2).status == 200
        except (OSError, client.Broken):
            return False

    def get(self, path, headers=None, method="GET", timeout=60.0):
        return client.request(self.port, path, headers, method, timeout)

    def admin(self, path):
        return client.request(self.admin_port, path)

    def download(self, repository, digest, **options):
        """A blob, its head read."""
        download = client.Download(self.port, f"/v2/{repository}/blobs/{digest}", **options)
        self.case.defer(download.close)
        return download.head()

    def blob(self, repository, digest, headers=None):
        return self.get(f"/v2/{repository}/blobs/{digest}", headers)

    def metrics(self):
        """{series as it stands in the exposition: value}."""
        series = {}
        for line in self.admin("/metrics").body.decode().splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                series[name] = float(value)
        return series

    def total(self, family, **labels):
        """The series of a family that have these labels, added up."""
        wanted = {f'{name}="{value}"' for name, value in labels.items()}
        return sum(value for name, value in self.metrics().items()
                   if name.partition("{")[0] == family and wanted <= set(name.partition("{")[2].rstrip("}").split(",")))

    def peak_rss(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.M).group(1)) * 1024

    def stop(self):
        """SIGTERM; returns the exit code."""
        return self.process.stop()

    def forget(self):
        """Empties the data of one that is stopped."""
        assert not self.process.alive()
        shutil.rmtree(self.data)

    def restart(self):
        code = self.stop()
        assert code == 0, f"sluice ended with {code}:\n{self.process.log()[-3000:]}"
        return self.start()

    # --- what it keeps ---

    def kept(self):
        """Files below blobs/, by digest."""
        if STANDIN:
            return {}
        return {path.name: path for path in (self.data / "blobs").rglob("*") if path.is_file()}

    def keeps(self, digest):
        algorithm, _, text = digest.partition(":")
        return (self.data / "blobs" / algorithm / text[:2] / text).exists()

    def incoming(self):
        folder = self.data / "incoming"
        return sorted(path.name for path in folder.rglob("*") if path.is_file()) if folder.exists() else []
