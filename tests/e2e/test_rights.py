"""What was learnt with one login at a registry is not served with another one: after a reload, and after a restart."""

import base64
import hashlib
import http.client
import json
import os
import signal
import sqlite3

from harness import case as cases
from harness import images, scripted, sluice

REPOSITORY = "team/app"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


class Registry(scripted.Registry):
    """With logins: `may[user]` are the repositories that a user may read. The password is the user's name, reversed."""

    def __init__(self, case):
        self.may = {}
        self.manifests = {}  # (repository, tag or digest): bytes
        self.users = []  # who has asked, in order
        self.downloads = 0  # of whole blobs
        super().__init__(case)

    def add_image(self, repository, tag, layer):
        digests = [self.add(repository, data)[0] for data in (b"{}", layer)]
        manifest = json.dumps({
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": digests[0]},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": len(layer),
                        "digest": digests[1]}]}).encode()
        digest = "sha256:" + hashlib.sha256(manifest).hexdigest()
        self.manifests[repository, tag] = self.manifests[repository, digest] = manifest
        return digest, digests[1]

    def answer(self, request):
        name, _, rest = request.path.removeprefix("/v2/").partition("/manifests/")
        repository = name.partition("/blobs/")[0]
        login = request.headers.get("Authorization", "").removeprefix("Basic ")
        user, _, password = base64.b64decode(login).decode().partition(":")
        if user not in self.may or password != user[::-1]:
            self._say(request, 401, b"{}", {"WWW-Authenticate": 'Basic realm="test"'})
            return
        self.users.append(user)
        if repository not in self.may[user]:
            self._say(request, 403, b'{"errors":[{"code":"DENIED"}]}', {})
        elif rest:
            manifest = self.manifests[repository, rest]
            self._say(request, 200, manifest, {
                "Content-Type": MANIFEST_TYPE,
                "Docker-Content-Digest": "sha256:" + hashlib.sha256(manifest).hexdigest()})
        else:
            if request.command == "GET" and "Range" not in request.headers:
                self.downloads += 1
            super().answer(request)

    def asked(self):
        """What it was asked about images; whether it is there may be asked at any time."""
        with self._lock:
            return [(method, path) for method, path, _ in self.requests if path != "/v2/"]

    def _say(self, request, status, body, fields):
        request.say(status, [*fields.items(), ("Content-Length", str(len(body)))], body)


def config(registry, user):
    return (f"upstreams:\n  docker.io:\n    url: {registry.url}\n    username: {user}\n    password: {user[::-1]}\n"
            "    retries: 0\ntags:\n  ttl: 1h\n")


class Pulls:
    """One image, asked for in each way."""

    def __init__(self, case):
        self.registry = Registry(case)
        self.registry.may = {"alice": {REPOSITORY}, "bob": set()}
        self.layer = os.urandom(300_000)
        self.digest, self.layer_digest = self.registry.add_image(REPOSITORY, "v1", self.layer)
        self.cache = sluice.Sluice(case, config=config(self.registry, "alice"))

    def statuses(self):
        paths = ["manifests/v1", f"manifests/{self.digest}", f"blobs/{self.layer_digest}"]
        answers = [self.cache.get(f"/v2/{REPOSITORY}/{path}", {"Accept": images.ACCEPT}) for path in paths]
        assert answers[2].status != 200 or answers[2].body == self.layer
        return [answer.status for answer in answers]

    def warm(self):
        assert self.statuses() == [200, 200, 200]
        cases.poll("the layer is stored", lambda: self.cache.keeps(self.layer_digest))
        cases.poll("nothing is fetched", lambda: self.cache.metrics()["sluice_fills_in_flight"] == 0)
        assert self.statuses() == [200, 200, 200]

    def log_in_as(self, user):
        (self.cache.home / "sluice.yml").write_text(config(self.registry, user))

    def reload(self):
        def count():
            return self.cache.metrics().get('sluice_config_reloads_total{result="applied"}', 0)

        before = count()
        os.kill(self.cache.process.pid, signal.SIGHUP)
        cases.poll("it is in force", lambda: count() > before)


def test_another_login_after_a_reload(case):
    pulls = Pulls(case)
    pulls.warm()
    asked = pulls.registry.asked()
    pulls.reload()  # nothing is different
    assert pulls.statuses() == [200, 200, 200]
    assert pulls.registry.asked() == asked

    pulls.log_in_as("bob")
    pulls.reload()
    assert pulls.statuses() == [403, 403, 403]
    assert pulls.registry.users[-1] == "bob"
    assert "the access or a login of docker.io has changed" in pulls.cache.process.log()
    # Who may gets what is stored.
    pulls.registry.may["bob"] = {REPOSITORY}
    assert pulls.statuses() == [200, 200, 200]
    assert pulls.registry.downloads == 1


def test_another_login_after_a_restart(case):
    pulls = Pulls(case)
    pulls.warm()
    asked = pulls.registry.asked()
    pulls.cache.restart()
    assert pulls.statuses() == [200, 200, 200]
    assert pulls.registry.asked() == asked

    pulls.log_in_as("bob")
    pulls.cache.restart()
    assert pulls.statuses() == [403, 403, 403]
    # Nor while the registry is out of reach, and after another restart.
    pulls.registry.stop()
    assert pulls.statuses() == [502, 502, 502]
    pulls.cache.restart()
    assert pulls.statuses() == [502, 502, 502]


def test_another_password_in_the_file(case):
    pulls = Pulls(case)
    password = case.file("password", "ecila\n")
    by_file = config(pulls.registry, "alice").replace("password: ecila", f"password_file: {password}")
    (pulls.cache.home / "sluice.yml").write_text(by_file)
    pulls.reload()
    pulls.warm()
    # The registry takes the old one no more, and the file has one that it does not take yet.
    pulls.registry.may["alice"] = set()
    assert pulls.statuses() == [200, 200, 200]
    password.write_text("wrong\n")
    cases.poll("the file is read again", lambda: pulls.statuses() != [200, 200, 200], seconds=60)
    assert all(status in (401, 403, 502) for status in pulls.statuses()), pulls.statuses()


def test_what_is_learnt_while_the_catalog_cannot_be_read(case):
    """Its rows are written beside those of before when it can be read again, and do not count for another login."""
    pulls = Pulls(case)
    pulls.log_in_as("bob")
    pulls.cache.restart()
    assert pulls.statuses() == [403, 403, 403]
    pulls.cache.stop()

    holder = sqlite3.connect(pulls.cache.data / "catalog.db", isolation_level=None)
    case.defer(holder.close)
    # What it writes stands beside the file, so that nobody can read it without the lock, which it keeps.
    for statement in ("PRAGMA locking_mode = EXCLUSIVE", "CREATE TABLE held (a)", "DROP TABLE held"):
        holder.execute(statement)
    pulls.log_in_as("alice")
    pulls.cache.start()
    assert "is opened again later" in pulls.cache.process.log(), pulls.cache.process.log()
    pulls.warm()
    holder.close()
    cases.poll("it is written again", lambda: "the catalog can be written again" in pulls.cache.process.log(), 60)

    pulls.log_in_as("bob")
    pulls.cache.restart()
    assert pulls.statuses() == [403, 403, 403]


def test_parts_of_a_lost_catalog(case):
    """Without the catalog nothing tells from which address a part came, so nobody goes on from it."""
    layer = os.urandom(8_000_000)

    class Breaking(Registry):
        def answer(self, request):
            if "/blobs/" not in request.path or request.command != "GET":
                super().answer(request)
                return
            request.send_response(200)
            request.send_header("Content-Length", str(len(layer)))
            request.end_headers()
            request.wfile.write(layer[:6_000_000])
            request.close_connection = True

    registry = Breaking(case)
    registry.may = {"alice": {REPOSITORY}}
    _, digest = registry.add_image(REPOSITORY, "v1", layer)
    cache = sluice.Sluice(case, config=config(registry, "alice"))

    def parts():
        return [name for name in cache.incoming() if name.endswith(".part")]

    try:
        cache.get(f"/v2/{REPOSITORY}/blobs/{digest}")
    except (http.client.HTTPException, OSError):
        pass  # it is broken off
    cases.poll("a part is kept", parts)
    cache.stop()
    cache.start()
    assert parts(), "a part survives a restart"
    cache.stop()
    for path in cache.data.glob("catalog.db*"):
        path.unlink()
    cache.start()
    assert not parts()
