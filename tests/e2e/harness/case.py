"""One running test: its temporary folder, its ports, the processes it started, and how all of it goes away again.

Everything a test starts is registered with its Case and stopped by process id when the test ends, however it ends.
Processes that are started here also die with the runner, should that be killed.
"""

import ctypes
import fcntl
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def end_with_runner():
    """In a process that is being started: it dies with the runner, should that be killed."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Skip(Exception):
    """Raised by a test that this machine cannot run; the text says why."""


def poll(what, probe, seconds=20.0, interval=0.02):
    """Calls `probe` until it returns something true, which is returned; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        result = probe()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(interval)


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


class Process:
    """A program that a test runs, in a process group of its own; its output goes to a file."""

    def __init__(self, name, arguments, log_path, environment=None, folder=None):
        self.name = name
        self.log_path = log_path
        with open(log_path, "ab") as log:
            self.popen = subprocess.Popen(
                [str(argument) for argument in arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=folder, env=environment, start_new_session=True,
                preexec_fn=end_with_runner)

    @property
    def pid(self):
        return self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait(self, seconds=30.0):
        """Waits for the end and returns the exit code."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {seconds:.0f} s") from None

    def stop(self, seconds=20.0):
        """SIGTERM, and SIGKILL for the whole group if that does not help. Returns the exit code."""
        if self.alive():
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.popen.returncode

    def kill(self):
        if self.alive():
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.popen.wait()

    def wait_for_port(self, port, seconds=20.0):
        def probe():
            if not self.alive():
                raise AssertionError(f"{self.name} ended with {self.popen.returncode}:\n{self.log()[-3000:]}")
            return listens(port)

        poll(f"{self.name} listens on {port}", probe, seconds)
        return self


class Case:
    def __init__(self, name, fixtures):
        self.name = name
        self.fixtures = fixtures  # the folder that is shared by the tests of one build (images.py)
        # Short: dockerd puts Unix sockets below it, whose paths end at 107 bytes.
        self.tmp = pathlib.Path(tempfile.mkdtemp(prefix="sluice-e2e-"))
        self._undo = []
        self._port_locks = []
        self.processes = []

    # --- for tests ---

    def say(self, text):
        print(f"    {text}", flush=True)

    def skip(self, reason):
        raise Skip(reason)

    def defer(self, action):
        """`action` runs when the test ends; the last registered comes first."""
        self._undo.append(action)

    def folder(self, name):
        path = self.tmp / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def file(self, name, text):
        path = self.tmp / name
        path.write_text(text)
        return path

    def port(self):
        """A port of 127.0.0.1 that no other test holds, below the range that the kernel hands out by itself."""
        locks = self.fixtures / "ports"
        locks.mkdir(parents=True, exist_ok=True)
        start = os.getpid() * 37 % 11000
        for step in range(11000):
            number = 20000 + (start + step) % 11000
            lock = open(locks / str(number), "w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with socket.socket() as probe:
                    # As servers do: what waits out a closed connection is no obstacle, a listener is.
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", number))
            except OSError:
                lock.close()
                continue
            self._port_locks.append(lock)
            return number
        raise AssertionError("no free port between 20000 and 31000")

    def spawn(self, name, arguments, environment=None, folder=None):
        log_path = self.tmp / f"{name}.{len(self.processes)}.log"
        process = Process(name, arguments, log_path, environment, folder or self.tmp)
        self.processes.append(process)
        self.defer(lambda: process.stop(5))  # no patience for a drain: whatever was to be seen has been seen
        return process

    def run(self, *arguments, seconds=120, check=True, environment=None):
        """Runs a client to its end and returns its CompletedProcess; fails with what it said."""
        done = subprocess.run([str(a) for a in arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=seconds, env=environment, cwd=self.tmp,
                              errors="replace")
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, arguments))}\nended with {done.returncode}:\n{done.stdout[-4000:]}")
        return done

    # --- for the runner ---

    def logs(self):
        for process in self.processes:
            yield process.name, process.log()[-6000:]

    def close(self):
        for action in reversed(self._undo):
            try:
                action()
            except Exception as error:  # the rest still has to be stopped
                print(f"    while cleaning up: {error}", flush=True)
        self._undo.clear()
        for lock in self._port_locks:
            lock.close()
        shutil.rmtree(self.tmp, ignore_errors=True)
