"""Who may come in: TLS, client certificates, logins, addresses, limits, repositories."""

import base64
import os
import resource
import socket
import ssl
import subprocess

from harness import case as cases
from harness import client, images, origin, sluice
from test_upstreams import config

ALICE = "alice:$2y$04$abcdefghijklmnopqrstuuPoaPXzWjiVz4HaNq2LJXksWbO79E.S6\n"  # correct-horse
BOB = "bob:$2b$04$abcdefghijklmnopqrstuugTWdwTf8XNmEQNdyCZrv8m00VeeC2Ga\n"  # battery


def basic(user, password):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def status(case, port, path, *options):
    done = case.run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", *options, f"https://127.0.0.1:{port}{path}",
                    check=False, environment=sluice.Sluice.environment())
    return done.stdout.strip() if done.returncode == 0 else f"failed: {done.stdout.strip()}"


def is_open(connection):
    connection.setblocking(False)
    try:
        connection.recv(1)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


class Secure(sluice.Sluice):
    """sluice that speaks TLS, with a file of logins where one is given."""

    def __init__(self, case, registry, authority, logins=None, more=""):
        self.authority = authority
        self.certificate, self.key = (case.tmp / name for name in ("cert.pem", "key.pem"))
        self.users = case.tmp / "htpasswd"
        self.renew()
        text = config(f"http://127.0.0.1:{registry.port}") + "server:\n  tls:\n"
        text += f"    cert_file: {self.certificate}\n    key_file: {self.key}\n{more}"
        if logins:
            self.users.write_text(logins)
            text += f"auth:\n  htpasswd_file: {self.users}\n"
        super().__init__(case, config=text)

    def renew(self):
        for made, used in zip(self.authority.sign(), (self.certificate, self.key)):
            made.chmod(0o600)
            os.replace(made, used)

    def serial(self):
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as plain:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
                return secured.getpeercert()["serialNumber"]


def test_skopeo_over_tls_with_a_login(case):
    image = case.images["test/oci:1"]
    registry = origin.Registry(case)
    authority = origin.Authority(case, "cache")
    cache = Secure(case, registry, authority, ALICE + "broken line\n")
    at = f"127.0.0.1:{cache.port}"
    trust = ("--src-cert-dir", str(case.folder("trusted")))
    os.symlink(authority.certificate, case.tmp / "trusted" / "ca.crt")

    def copy(folder, *options, check=True):
        return case.run("skopeo", "--insecure-policy", "copy", "-q", "--preserve-digests", *trust, *options,
                        f"docker://{at}/{image.name}", f"dir:{case.tmp / folder}", check=check)

    copy("cold", "--src-creds", "alice:correct-horse")
    copy("warm", "--src-creds", "alice:correct-horse")
    for digest in image.layers:
        assert (case.tmp / "warm" / digest.split(":")[1]).exists(), digest
    for wrong in (("--src-no-creds",), ("--src-creds", "alice:wrong"), ("--src-creds", "mallory:correct-horse")):
        assert copy("none", *wrong, check=False).returncode != 0, wrong

    ca = ("--cacert", str(authority.certificate))
    assert status(case, cache.port, "/v2/", *ca) == "401"
    assert status(case, cache.port, "/v2/", *ca, "-u", "alice:correct-horse") == "200"
    answer = client.request(cache.port, "/v2/")
    assert answer.status == 400 and b"https" in answer.body, answer.body

    # Another file of logins counts by itself.
    cache.users.write_text(BOB)
    cases.poll("bob is let in", lambda: status(case, cache.port, "/v2/", *ca, "-u", "bob:battery") == "200")
    assert status(case, cache.port, "/v2/", *ca, "-u", "alice:correct-horse") == "401"

    # So does another certificate.
    before = cache.serial()
    cache.renew()
    cases.poll("the new certificate is shown", lambda: cache.serial() != before, seconds=30)
    log = cache.process.log()
    assert "line 2: not user:hash" in log, log
    for secret in ("correct-horse", "battery", "$2", "broken line"):
        assert secret not in log, f"{secret} stands in the log"
    assert cache.metrics()['sluice_logins_total{result="remembered"}'] > 0


def test_warm_over_tls_with_a_login(case):
    image = case.images["test/oci:1"]
    authority = origin.Authority(case, "cache")
    cache = Secure(case, origin.Registry(case), authority, ALICE)

    def warm(*options, password=None, given=None):
        environment = sluice.Sluice.environment()
        if password:
            environment["SLUICE_PASSWORD"] = password
        done = subprocess.run([sluice.binary(), "warm", *options, image.name], input=given or "", capture_output=True,
                              text=True, timeout=120, env=environment)
        return done.returncode, done.stdout + done.stderr

    at = ("--server", f"https://127.0.0.1:{cache.port}", "--ca-file", str(authority.certificate))
    status, said = warm(*at)
    assert status == 1 and "requires a login" in said and "--user" in said, said
    status, said = warm(*at, "--user", "alice", password="wrong")
    assert status == 1 and "does not know that user name and password" in said, said
    status, said = warm(*at, "--user", "alice")
    assert status == 2 and "--password-stdin" in said, said
    status, said = warm(*at, "--user", "alice", password="correct-horse")
    assert status == 0 and image.digest[7:19] in said, said
    # The configuration says where it is, and that it speaks TLS; standard input has the password.
    file = case.file("warm.yml", f"server:\n  listen: 127.0.0.1:{cache.port}\n  tls:\n"
                                 f"    cert_file: {cache.certificate}\n    key_file: {cache.key}\n")
    named = ("--config", str(file), "--ca-file", str(authority.certificate), "--user", "alice", "--password-stdin")
    status, said = warm(*named, given="correct-horse\nmore")
    assert status == 0, said
    status, said = warm(*named, given="")
    assert status == 2 and "nothing on standard input" in said, said
    # Who is not trusted gets no password.
    status, said = warm("--server", f"https://127.0.0.1:{cache.port}", "--user", "alice", password="correct-horse")
    assert status == 1 and "certificate" in said, said


def test_client_certificates(case):
    registry = origin.Registry(case)
    authority, clients, others = (origin.Authority(case, name) for name in ("cache", "clients", "others"))
    cache = Secure(case, registry, authority, more=f"    client_ca_file: {clients.certificate}\n")
    ca = ("--cacert", str(authority.certificate))
    certificate, key = clients.sign("clientAuth")
    assert status(case, cache.port, "/v2/", *ca, "--cert", str(certificate), "--key", str(key)) == "200"
    certificate, key = others.sign("clientAuth")
    assert status(case, cache.port, "/v2/", *ca, "--cert", str(certificate), "--key", str(key)).startswith("failed")
    assert status(case, cache.port, "/v2/", *ca).startswith("failed")
    for version, works in (("-tls1_2", True), ("-tls1_1", False)):
        done = case.run("openssl", "s_client", "-connect", f"127.0.0.1:{cache.port}", version, "-alpn", "http/1.1",
                        check=False)
        assert ("ALPN protocol: http/1.1" in done.stdout) == works, done.stdout[-2000:]


def test_one_client_with_ten_thousand_connections(case):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    many = min(10_000, most - 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    image = case.images["test/oci:1"]
    registry = origin.Registry(case)
    cache = sluice.Sluice(case, config=config(f"http://127.0.0.1:{registry.port}")
                          + "server:\n  client:\n    max_connections: 50\n")
    greedy = []
    case.defer(lambda: [one.close() for one in greedy])
    for _ in range(many):
        one = socket.socket()
        one.bind(("127.0.0.2", 0))
        one.connect(("127.0.0.1", cache.port))
        greedy.append(one)
    refused = 'sluice_http_denied_total{listener="registry",reason="connections"}'
    cases.poll("all but 50 are refused", lambda: cache.metrics()[refused] == many - 50)
    assert cache.metrics()['sluice_http_connections{listener="registry"}'] <= 60
    # Another client does not notice.
    for digest in image.blobs:
        assert cache.blob(image.repository, digest).status == 200, digest
    kept = [one for one in greedy if is_open(one)]
    case.say(f"{many} connections of one client, {len(kept)} of them kept")
    assert len(kept) == 50
    for one in kept:
        one.settimeout(10)
        one.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert one.recv(100).startswith(b"HTTP/1.1 200")


def test_addresses_and_proxies(case):
    registry = origin.Registry(case)
    text = config(f"http://127.0.0.1:{registry.port}") + "server:\n  deny: [127.0.0.3, 192.0.2.9]\n"
    cache = sluice.Sluice(case, config=text + "  trusted_proxies: [127.0.0.1]\n")
    denied = socket.socket()
    denied.settimeout(10)
    denied.bind(("127.0.0.3", 0))
    denied.connect(("127.0.0.1", cache.port))
    assert denied.recv(1) == b"", "it is told something"
    denied.close()
    assert cache.get("/v2/", {"X-Forwarded-For": "192.0.2.9"}).status == 403
    assert cache.get("/v2/", {"X-Forwarded-For": "192.0.2.9, 192.0.2.1"}).status == 200
    cases.poll("the client's address is in the access log", lambda: "192.0.2.1 " in cache.process.log())

    behind = sluice.Sluice(case, config=text + "  trusted_proxies: [127.0.0.1]\n  proxy_protocol: true\n")
    head = b"PROXY TCP4 %s 127.0.0.1 4321 80\r\nGET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert client.raw_exchange(behind.port, head % b"192.0.2.7").startswith(b"HTTP/1.1 200")
    assert client.raw_exchange(behind.port, head % b"192.0.2.9") == b""
    assert client.raw_exchange(behind.port, b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n") == b""
    done = case.run("curl", "-sS", "--haproxy-protocol", f"http://127.0.0.1:{behind.port}/v2/",
                    environment=sluice.Sluice.environment())
    assert done.stdout == "{}", done.stdout
    cases.poll("the client's address is in the access log", lambda: "192.0.2.7:4321" in behind.process.log())


def test_repositories_that_are_not_there(case):
    image = case.images["test/oci:1"]
    registry = origin.Registry(case)
    cache = sluice.Sluice(case, config=config(f"http://127.0.0.1:{registry.port}")
                          + "repositories:\n  deny: [docker.io/test/oci]\n")
    headers = {"Accept": images.ACCEPT}
    for path in (f"manifests/{image.tag}", f"blobs/{image.layers[0]}", "tags/list"):
        answer = cache.get(f"/v2/{image.repository}/{path}", headers)
        assert (answer.status, answer.codes()) == (403, ["DENIED"]), path
    other = next(i for i in case.images.values() if i.repository not in ("test/oci", "team/private"))
    assert cache.get(f"/v2/{other.repository}/manifests/{other.tag}", headers).status == 200
