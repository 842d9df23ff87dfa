"""Debian's Chromium without a window, driven through the DevTools protocol over a pipe.

Everything that a page asks for, logs or is forbidden is noted: `requests` (URLs), `problems` (texts).
"""

import base64
import fcntl
import json
import os
import pathlib
import select
import shutil
import subprocess
import time

from harness import case as cases

# Each of the page's own violations, told where the page itself can hear of it.
VIOLATIONS = ("window.violations = []; document.addEventListener('securitypolicyviolation', "
              "(e) => window.violations.push(e.violatedDirective + ' ' + e.blockedURI));")


class Browser:
    """One browser with one page. Skips the test where there is no Chromium."""

    def __init__(self, case):
        program = shutil.which("chromium")
        if program is None:
            case.skip("no chromium")
        home = case.folder("chromium")
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        arguments = [program, "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu",
                     "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
                     "--disable-sync", "--no-proxy-server", "--hide-scrollbars", f"--user-data-dir={home}/profile",
                     # It stays on loopback.
                     "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")

        def connect():
            # The protocol's descriptors are 3 and 4, which may be in use here.
            ends = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 64) for descriptor in (to_browser, from_browser)]
            for number, end in zip((3, 4), ends):
                os.dup2(end, number)
                os.close(end)
            cases.end_with_runner()

        log = open(home / "log", "ab")
        # All other descriptors of Python's close by themselves.
        self.process = subprocess.Popen([*arguments, "about:blank"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        close_fds=False, start_new_session=True, preexec_fn=connect,
                                        env={**os.environ, "HOME": str(home)})
        log.close()
        for descriptor in (to_browser, from_browser):
            os.close(descriptor)
        case.defer(self.close)
        self.requests, self.problems = [], []
        self._rest, self._next, self._answers, self._session = b"", 0, {}, None
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "Audits"):
            self.call(f"{domain}.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=VIOLATIONS)

    # --- for tests ---

    def open(self, url):
        self.call("Page.navigate", url=url)

    def evaluate(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self, selector):
        """What a person reads there; empty where there is no such element."""
        return self.evaluate(f"(document.querySelector({json.dumps(selector)}) || {{innerText: ''}}).innerText")

    def wait_for(self, what, expression, seconds=60):
        """Until it is true. Where it fails, because the page is not there yet, it is not."""
        tried = f"(() => {{ try {{ return {expression}; }} catch {{ return false; }} }})()"
        return cases.poll(what, lambda: self.evaluate(tried), seconds, 0.1)

    def window(self, width, height, phone=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def scheme(self, name):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def scripts(self, allowed):
        self.call("Emulation.setScriptExecutionDisabled", value=not allowed)

    def picture(self, path):
        """The whole page as a PNG."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        pathlib.Path(path).write_bytes(base64.b64decode(data))

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, 15)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, 9)
                self.process.wait()
        for descriptor in (self._read, self._write):
            os.close(descriptor)

    # --- the protocol ---

    def call(self, method, **parameters):
        self._next += 1
        message = {"id": self._next, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        wanted, deadline = self._next, time.monotonic() + 60
        while wanted not in self._answers:
            self._receive(deadline, method)
        answer = self._answers.pop(wanted)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _receive(self, deadline, method):
        ready, _, _ = select.select([self._read], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"Chromium does not answer {method}"
        piece = os.read(self._read, 1 << 20)
        assert piece, "Chromium has ended"
        *whole, self._rest = (self._rest + piece).split(b"\0")
        for message in map(json.loads, whole):
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self._note(message["method"], message["params"])

    def _note(self, event, said):
        if event == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(said["exceptionDetails"]))
        elif event == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.problems.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")
        elif event == "Audits.issueAdded" and said["issue"]["code"] == "ContentSecurityPolicyIssue":
            self.problems.append(json.dumps(said["issue"]["details"]))
