"""Debian's tinyproxy: the forward proxy between the program under test and its origins."""

import shutil


class Tinyproxy:
    """On a free port of 127.0.0.1; `user` and `password` are asked for where they are given."""

    def __init__(self, case, user=None, password=None):
        if not shutil.which("tinyproxy"):
            case.skip("there is no tinyproxy")
        self.port = case.port()
        self.log = case.tmp / f"tinyproxy-{self.port}.log"
        lines = [f"Port {self.port}", "Listen 127.0.0.1", "Timeout 60", "MaxClients 100", "LogLevel Connect",
                 f'LogFile "{self.log}"', "DisableViaHeader Yes"]
        if user:
            lines.append(f"BasicAuth {user} {password}")
        config = case.file(f"tinyproxy-{self.port}.conf", "\n".join(lines) + "\n")
        self.process = case.spawn("tinyproxy", ["tinyproxy", "-d", "-c", config])
        self.process.wait_for_port(self.port)
        login = f"{user}:{password}@" if user else ""
        self.url = f"http://{login}127.0.0.1:{self.port}"

    def requests(self):
        """The request lines that it saw."""
        marker = "Request (file descriptor "
        return [line.partition("): ")[2] for line in self.log.read_text().splitlines() if marker in line]
