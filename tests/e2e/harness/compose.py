"""docker compose, with a dockerd and a network of its own: a network namespace that nothing outside is reached from.

The images are made here, of this machine's programs: the registries that compose.yml names are not asked.
"""

import json
import os
import pathlib
import shutil

from harness import case as cases
from harness import clients

ROOT = pathlib.Path(__file__).resolve().parents[3]
DAEMON = 'ip link set lo up && if [ -d /etc/docker ]; then mount --bind "$0" /etc/docker; fi && exec "$@"'


def plugin(case):
    """docker compose, version 2: docker's own plugin, or what ./dev test has fetched."""
    docker = shutil.which("docker", path=clients.PATH + ":/usr/local/bin")
    if docker and case.run(docker, "compose", "version", check=False).returncode == 0:
        return [docker, "compose"]
    fetched = pathlib.Path(os.environ.get("SLUICE_E2E_TOOLS") or "/nonexistent") / "docker-compose"
    if not fetched.exists():
        case.skip("docker compose is not here: Debian 12 has none, and ./dev test could not fetch that of Debian 13")
    return [fetched]


class Compose:
    def __init__(self, case, name, *files):
        self.case, self.command = case, plugin(case)
        if os.geteuid() != 0:
            case.skip("dockerd needs root")
        self.docker_program = shutil.which("docker", path=clients.PATH + ":/usr/local/bin")
        daemon = shutil.which("dockerd", path=clients.PATH)
        if not daemon or not self.docker_program:
            case.skip("no docker: the Debian package docker.io is not installed")
        self.name, self.files = name, files
        self.home = case.folder("dockerd")
        self.socket = f"unix://{self.home}/docker.sock"
        self.environment = {"PATH": clients.PATH, "HOME": str(self.home), "DOCKER_HOST": self.socket}
        settings = case.file("daemon.json", "{}")
        self.daemon = case.spawn("dockerd", [
            "unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", DAEMON, case.folder("dockerd/etc"), daemon,
            "--config-file", settings, "--data-root", self.home / "data", "--exec-root", self.home / "exec", "--pidfile",
            self.home / "pid", "--host", self.socket, "--storage-driver", "vfs",
            "--containerd-namespace=sluice-e2e", "--containerd-plugins-namespace=sluice-e2e-plugins"], self.environment)
        cases.poll("dockerd answers", lambda: self.docker("version", check=False).returncode == 0 or self.ended(), 60, 0.2)
        if not self.daemon.alive():
            case.skip(f"dockerd cannot have a network of its own here: {self.daemon.log()[-300:]}")
        case.defer(self.down)

    def ended(self):
        return not self.daemon.alive()

    def docker(self, *arguments, check=True):
        return self.case.run(self.docker_program, *arguments, check=check, environment=self.environment)

    def __call__(self, *arguments, check=True):
        files = [word for file in self.files for word in ("-f", file)]
        return self.case.run(*self.command, *files, *arguments, check=check, environment=self.environment)

    def down(self):
        self("--profile", "*", "down", "--volumes", "--timeout", "1", check=False)

    def image(self, name, program, *command):
        """An image of one program of this machine, with the libraries that it needs."""
        path = shutil.which(program, path=clients.PATH)
        if not path:
            self.case.skip(f"{program} is not installed")
        context = self.case.folder(f"image-{program}")
        self.case.run(ROOT / "docker/rootfs.sh", path, context / "rootfs")
        (context / "rootfs/usr/bin/sluice").rename(context / "rootfs/usr/bin" / program)
        archive = context / "rootfs.tar"
        self.case.run("tar", "--create", "--file", archive, "--directory", context / "rootfs", ".")
        self.docker("import", "--change", "ENV PATH=/usr/bin", "--change", f"CMD {json.dumps([program, *command])}",
                    archive, name)

    def inside(self, *arguments, check=True):
        """Runs a program of this machine in the daemon's network."""
        return self.case.run("nsenter", "--net", "--target", self.daemon.pid, *arguments, check=check)

    def spawn_inside(self, name, *arguments):
        return self.case.spawn(name, ["nsenter", "--net", "--target", self.daemon.pid, *arguments],
                               {"PATH": clients.PATH, "OTEL_TRACES_EXPORTER": "none"})

    def get(self, url, *options, check=True):
        """The body, fetched by curl in the daemon's network."""
        return self.inside("curl", "--silent", "--show-error", "--fail", "--max-time", "30", "--noproxy", "*", *options, url,
                           check=check)

    def health(self, service):
        number = self("ps", "--quiet", service).stdout.strip()
        return number and json.loads(self.docker("inspect", number).stdout)[0]["State"].get("Health", {}).get("Status")
