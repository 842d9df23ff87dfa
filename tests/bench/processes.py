"""Processes under measurement: started, pinned, counted, stopped."""

import os
import pathlib
import signal
import socket
import subprocess
import time


def descendants(pid):
    """The process and all below it."""
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
    found = {pid}
    while True:
        more = {child for child, parent in parents.items() if parent in found} - found
        if not more:
            return found
        found |= more


class Process:
    """One server with everything that it forks. `cores`: a list for taskset, such as "0" or "0,1"."""

    def __init__(self, name, arguments, folder, cores, environment=None):
        self.name = name
        # SLUICE_* of the caller would be read as configuration.
        kept = {key: value for key, value in os.environ.items() if not key.startswith("SLUICE_")}
        self.log_path = folder / f"{name}.log"
        with open(self.log_path, "wb") as log:
            self.popen = subprocess.Popen(["taskset", "-c", cores, *map(str, arguments)], stdin=subprocess.DEVNULL,
                                          stdout=log, stderr=log, cwd=folder, start_new_session=True,
                                          env={**kept, **(environment or {})})

    def wait_for_port(self, port, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.popen.poll() is not None:
                break
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} does not listen on port {port}:\n{self.log_path.read_text(errors='replace')[-2000:]}")

    def cpu_seconds(self):
        """User and system time of all threads, from the scheduler's own account (nanoseconds, not ticks)."""
        return cpu_seconds(self.popen.pid)

    def peak_memory_mib(self):
        return peak_memory_mib(self.popen.pid)

    def memory_mib(self):
        return memory_mib(self.popen.pid)

    def forget_peak_memory(self):
        for pid in descendants(self.popen.pid):
            try:
                pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")
            except OSError:
                continue

    def stop(self):
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, signal.SIGTERM)
            try:
                self.popen.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.popen.pid, signal.SIGKILL)
                self.popen.wait(10)


def cpu_seconds(pid):
    total = 0
    for process in descendants(pid):
        for task in pathlib.Path(f"/proc/{process}/task").glob("*/schedstat"):
            try:
                total += int(task.read_text().split()[0])
            except (OSError, IndexError, ValueError):
                continue
    return total / 1e9


def peak_memory_mib(pid):
    return memory_mib(pid, "VmHWM:")


def memory_mib(pid, field="VmRSS:"):
    total = 0
    for process in descendants(pid):
        try:
            for line in pathlib.Path(f"/proc/{process}/status").read_text().splitlines():
                if line.startswith(field):
                    total += int(line.split()[1])
        except OSError:
            continue
    return total / 1024
