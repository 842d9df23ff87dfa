"""What is installed: the Debian package, the unit, man pages and completions, and what the program tells systemd."""

import os
import pathlib
import re
import shutil
import socket
import subprocess

from harness import case as cases
from harness import origin, sluice

ROOT = pathlib.Path(__file__).resolve().parents[2]


def need(case, *programs):
    for program in programs:
        if not shutil.which(program):
            case.skip(f"{program} is not installed")


def build_folder(case):
    folder = pathlib.Path(sluice.binary()).parent
    if not (folder / "CPackConfig.cmake").exists():
        case.skip("the program under test does not stand in a build folder")
    return folder


# --- texts that are generated from the help texts ---


def generated(case):
    folder = case.folder("texts")
    case.run("python3", "-B", ROOT / "config/packaging/generate.py", sluice.binary(), "1.2.3", folder)
    return folder


def commands(case):
    text = case.run(sluice.binary(), "help").stdout
    return re.findall(r"^  ([a-z][a-z-]+) {2,}\S", text, re.M)


def test_man_pages(case):
    folder = generated(case)
    names = commands(case)
    assert {"serve", "warm", "health"} <= set(names)
    for name in set(names) - {"help", "version"}:
        page = (folder / f"man1/sluice-{name}.1").read_text()
        for option in re.findall(r"^  (?:-\w,)?(--[a-z-]+)", case.run(sluice.binary(), "help", name).stdout, re.M):
            assert option.replace("-", "\\-") in page, f"sluice-{name}(1) lacks {option}"
    need(case, "man")
    for page in sorted((folder / "man1").glob("*.1")):
        done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page], capture_output=True,
                              text=True, env={**os.environ, "MANROFFSEQ": "", "MANWIDTH": "80", "LC_ALL": "C.UTF-8"})
        assert done.returncode == 0 and not done.stderr, f"{page.name}: {done.stderr}"


def test_completions(case):
    folder = generated(case)
    script = f"""source {folder}/bash/sluice
ask() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _sluice; echo "${{COMPREPLY[*]}}"; }}
ask sluice he
ask sluice warm --pl
ask sluice help rel
"""
    done = case.run("bash", "-ec", script).stdout.split("\n")
    assert done[:3] == ["health help", "--platform", "reload"], done
    for shell, name in (("zsh", "zsh/_sluice"), ("fish", "fish/sluice.fish")):
        if shutil.which(shell):
            case.run(shell, "-n", folder / name)
        text = (folder / name).read_text()
        assert all(command in text for command in commands(case)), name


# --- the package ---


def test_debian_package(case):
    need(case, "cpack", "dpkg-deb", "dpkg-shlibdeps", "lintian")
    folder = build_folder(case)
    case.run("cpack", "-G", "DEB", "--config", folder / "CPackConfig.cmake", "-B", case.tmp / "cpack")
    package, = (case.tmp / "cpack").glob("*.deb")
    case.say(f"{package.name}, {package.stat().st_size / 1e6:.1f} MB")
    contents = case.run("dpkg-deb", "--contents", package).stdout
    files = {line.split(None, 5)[5].split(" -> ")[0].removeprefix("."): line.split()[:2]
             for line in contents.splitlines()}
    for path in ("/usr/bin/sluice", "/lib/systemd/system/sluice.service", "/usr/lib/sysusers.d/sluice.conf",
                 "/etc/sluice/sluice.yml", "/etc/logrotate.d/sluice", "/usr/share/man/man1/sluice-serve.1.gz",
                 "/usr/share/bash-completion/completions/sluice", "/usr/share/doc/sluice/docs/metrics.md",
                 "/usr/share/doc/sluice/examples/rules/sluice.alerts.yml"):
        assert path in files, f"{path} is not in the package"
    assert files["/etc/sluice/secrets/"][0] == "drwx------", files["/etc/sluice/secrets/"]
    assert all(owner == "root/root" for _, owner in files.values()), "not everything is root's"
    control = case.run("dpkg-deb", "--field", package, "Depends").stdout
    assert "libssl3" in control and "systemd" in control, control
    # Everything that lintian says at all, information apart.
    said = case.run("lintian", "--no-tag-display-limit", "--allow-root", package, check=False).stdout
    faults = [line for line in said.splitlines() if line[:2] in ("E:", "W:")]
    assert not faults, "\n".join(faults)
    install(case, package)


def test_cmake_install(case):
    need(case, "cmake")
    folder = build_folder(case)
    root = case.folder("root")
    case.run("cmake", "--install", folder, environment={**os.environ, "DESTDIR": str(root)})
    prefix = re.search(r"^ExecStart=(\S+)/bin/sluice ", (folder / "packaging/sluice.service").read_text(), re.M)[1]
    installed = root / prefix.lstrip("/")
    assert case.run(installed / "bin/sluice", "version").stdout == case.run(sluice.binary(), "version").stdout
    units = [path for path in root.rglob("sluice.service")]
    assert len(units) == 1 and units[0].read_text() == (folder / "packaging/sluice.service").read_text()
    assert (installed / "share/man/man1/sluice-health.1").exists()
    assert (installed / "share/fish/vendor_completions.d/sluice.fish").exists()


def install(case, package):
    """Into a root folder, away again, and purged: the configuration goes, what is cached stays."""
    if os.geteuid() != 0:
        case.say("not root: not installed")
        return
    need(case, "dpkg", "deb-systemd-helper", "systemd-sysusers")
    root = case.folder("root")
    for path in ("var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "etc", "var/lib/private/sluice"):
        (root / path).mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    kept = root / "var/lib/private/sluice/catalog.db"
    kept.touch()
    dpkg = ["dpkg", f"--root={root}", "--force-depends", "--force-script-chrootless", "--no-triggers",
            f"--log={case.tmp / 'dpkg.log'}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    case.run(*dpkg, "--install", package, environment=environment)
    assert case.run(root / "usr/bin/sluice", "version").stdout.startswith("sluice ")
    assert re.search(r"^sluice:", (root / "etc/passwd").read_text(), re.M)
    assert (root / "etc/systemd/system/multi-user.target.wants/sluice.service").is_symlink()
    case.run(root / "usr/bin/sluice", "check-config", "--config", root / "etc/sluice/sluice.yml",
             environment=environment)
    case.run(*dpkg, "--remove", "sluice", environment=environment)
    assert not (root / "usr/bin/sluice").exists() and (root / "etc/sluice/sluice.yml").exists()
    said = case.run(*dpkg, "--purge", "sluice", environment=environment).stdout
    assert not (root / "etc/sluice/sluice.yml").exists()
    assert kept.exists() and "private/sluice stays" in said, said
    case.run(*dpkg, "--install", package, environment=environment)
    case.run(*dpkg, "--purge", "sluice", environment={**environment, "SLUICE_PURGE_DATA": "1"})
    assert not kept.exists()


def test_unit_is_confined(case):
    need(case, "systemd-analyze")
    unit = build_folder(case) / "packaging/sluice.service"
    said = case.run("systemd-analyze", "security", "--offline=true", "--threshold=15", unit, check=False)
    exposure = float(re.search(r"exposure level for sluice.service: ([0-9.]+)", said.stdout)[1])
    case.say(f"exposure {exposure}")
    assert exposure <= 1.5 and said.returncode == 0, said.stdout
    text = unit.read_text()
    for line in ("Type=notify", "WatchdogSec=60", "DynamicUser=yes", "StateDirectory=sluice"):
        assert line + "\n" in text, line
    # The names of all directives are right: a wrong one would be ignored.
    root = case.folder("root")
    for path in ("usr/bin", "etc/systemd/system"):
        (root / path).mkdir(parents=True)
    shutil.copy(sluice.binary(), root / "usr/bin/sluice")
    shutil.copy(unit, root / "etc/systemd/system/sluice.service")
    said = case.run("systemd-analyze", f"--root={root}", "verify", "--man=no", "sluice.service", check=False).stdout
    wrong = [line for line in said.splitlines() if "sluice.service" in line and "not found" not in line]
    assert not wrong, "\n".join(wrong)


# --- the running program ---


class Manager:
    """systemd's end of NOTIFY_SOCKET."""

    def __init__(self, case):
        self.path = case.tmp / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        case.defer(self.socket.close)

    def wait_for(self, beginning, seconds=20):
        def received():
            self.socket.settimeout(seconds)
            message = self.socket.recv(4096).decode()
            return message if message.startswith(beginning) else None

        return cases.poll(f"the service manager hears {beginning}", received, seconds)


class Notified(sluice.Sluice):
    def __init__(self, case, manager, **options):
        self.manager = manager
        super().__init__(case, **options)

    def environment(self):
        return {**super().environment(), "NOTIFY_SOCKET": str(self.manager.path), "WATCHDOG_USEC": "600000"}


def test_tells_the_service_manager(case):
    manager = Manager(case)
    image = case.images["test/medium:1"]
    registry = origin.Registry(case)
    cache = Notified(case, manager, upstream=registry.url)
    ready = manager.wait_for("READY=1")
    assert f"STATUS=serving on 127.0.0.1:{cache.port}" in ready, ready
    manager.wait_for("WATCHDOG=1")
    manager.wait_for("WATCHDOG=1")
    # While it drains it is still alive, and says so.
    slow = cache.download(image.repository, image.layers[0], receive_buffer=65536)
    slow.read_exactly(1000)
    cache.process.popen.terminate()
    assert "EXTEND_TIMEOUT_USEC=" in manager.wait_for("STOPPING=1")
    manager.wait_for("WATCHDOG=1")
    health = case.run(sluice.binary(), "health", "--admin", f"127.0.0.1:{cache.admin_port}", check=False)
    assert health.returncode == 1, health  # its port is the next process's by now
    slow.close()
    assert cache.process.wait() == 0


def test_health(case):
    registry = origin.Registry(case)
    cache = sluice.Sluice(case, registry.url)
    ask = [sluice.binary(), "health", "--admin", f"127.0.0.1:{cache.admin_port}"]
    assert case.run(*ask).stdout == "ready\n"
    assert case.run(*ask, "--json").stdout.startswith("{")
    assert case.run(*ask, "--quiet").stdout == ""
    # As in a container: by the environment alone.
    assert case.run(sluice.binary(), "health",
                    environment={"SLUICE_ADMIN_LISTEN": f":{cache.admin_port}"}).stdout == "ready\n"
    cache.stop()
    gone = case.run(*ask, check=False)
    assert gone.returncode == 1 and f"no answer from 127.0.0.1:{cache.admin_port}" in gone.stdout, gone
    assert case.run(sluice.binary(), "health", "--admin", "nonsense", check=False).returncode != 0
