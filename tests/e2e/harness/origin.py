"""Upstream registries: Debian's docker-registry, plain, with TLS, and behind a token server of our own."""

import base64
import http.server
import json
import os
import pathlib
import threading
import time
import urllib.parse
import warnings

from harness import client


class Registry:
    """A docker-registry on a free port. Read-only unless `writable`.

    certificate: (certificate file, key file) for TLS. token: a TokenServer that it trusts. accounts: {user: password}
    for Basic. clients: the certificate of the authority that has to vouch for who connects.
    """

    def __init__(self, case, storage=None, writable=False, certificate=None, token=None, proxy_of=None, accounts=None,
                 clients=None):
        self.case = case
        self.port = case.port()
        self.scheme = "https" if certificate else "http"
        self.url = f"{self.scheme}://127.0.0.1:{self.port}"
        self.storage = pathlib.Path(storage or case.fixtures / "registry")
        settings = {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.storage)},
                "cache": {"blobdescriptor": "inmemory"},
                "maintenance": {"uploadpurging": {"enabled": False}, "readonly": {"enabled": not writable}},
            },
            "http": {"addr": f"127.0.0.1:{self.port}", "secret": "not one"},
        }
        if certificate:
            settings["http"]["tls"] = {"certificate": str(certificate[0]), "key": str(certificate[1])}
        if token:
            settings["auth"] = {"token": {
                "realm": token.url + "/token", "service": token.service, "issuer": token.issuer,
                "rootcertbundle": str(token.certificate)}}
        if clients:
            settings["http"]["tls"]["clientcas"] = [str(clients)]
        if accounts:
            self.accounts = case.tmp / f"htpasswd-{self.port}"
            self.let_in(accounts)
            settings["auth"] = {"htpasswd": {"realm": "e2e", "path": str(self.accounts)}}
        if proxy_of:
            settings["proxy"] = {"remoteurl": proxy_of}
            settings["storage"]["maintenance"].pop("readonly")
        # JSON is YAML.
        self.config = case.file(f"registry-{self.port}.yml", json.dumps(settings))
        self.start()

    def let_in(self, accounts):
        """These accounts from now on; the registry reads the file again when its time has changed."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            import crypt  # there is no other bcrypt in Python's library
        salt = crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=32)
        lines = [f"{user}:{crypt.crypt(password, salt)}\n" for user, password in accounts.items()]
        before = self.accounts.stat().st_mtime if self.accounts.exists() else 0.0
        self.accounts.write_text("".join(lines))
        later = max(time.time(), before + 2)
        os.utime(self.accounts, (later, later))

    def start(self):
        environment = {"PATH": "/usr/bin:/bin", "OTEL_TRACES_EXPORTER": "none"}
        self.process = self.case.spawn("docker-registry", ["docker-registry", "serve", self.config], environment)
        self.process.wait_for_port(self.port)
        return self

    def stop(self):
        self.process.kill()

    def blob_file(self, digest):
        """Where it keeps that blob."""
        text = digest.removeprefix("sha256:")
        return self.storage / "docker/registry/v2/blobs/sha256" / text[:2] / text / "data"

    def get(self, path, headers=None, method="GET"):
        return client.request(self.port, path, headers, method)


class Authority:
    """A certificate authority for one test, and the certificates that it signs for 127.0.0.1."""

    def __init__(self, case, name):
        self.case, self.name = case, name
        self.folder = case.folder(f"authority-{name}")
        self.key, self.certificate = self.folder / "ca.key", self.folder / "ca.pem"
        case.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                 "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign,digitalSignature",
                 "-keyout", self.key, "-out", self.certificate)

    def sign(self, usage="serverAuth"):
        """Returns (certificate file, key file)."""
        key, request, certificate = (self.folder / f"{usage}.{end}" for end in ("key", "csr", "pem"))
        extensions = self.folder / "extensions"
        extensions.write_text(f"subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage={usage}\n")
        self.case.run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
                      "-keyout", key, "-out", request)
        self.case.run("openssl", "x509", "-req", "-days", "2", "-in", request, "-CA", self.certificate,
                      "-CAkey", self.key, "-CAcreateserial", "-extfile", extensions, "-out", certificate)
        return certificate, key


def _base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenServer:
    """Hands out Bearer tokens as a registry's authorization service does; one user, one password.

    A request without the right login gets a token for nothing. `requests` lists (login or None, scopes). The identity
    token takes the place of the login in a POST, and stands in the list for it.
    """

    def __init__(self, case, user, password):
        self.case = case
        self.service, self.issuer = "e2e-registry", "e2e-tokens"
        self.lifetime = 300  # seconds; docker-registry takes tokens for 60 more
        self.requests = []
        authority = Authority(case, "tokens")
        self.certificate, self.key = authority.certificate, authority.key
        self.identity_token = "e2e-identity-token"
        self._expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                url = urllib.parse.urlsplit(self.path)
                query = urllib.parse.parse_qs(url.query)
                login = self.headers.get("Authorization")
                scopes = [s for value in query.get("scope", []) for s in value.split()]
                server.requests.append((login, scopes))
                if url.path != "/token" or (login is not None and login != server._expected):
                    status, body = 401, {"details": "incorrect username or password"}
                else:
                    status, body = 200, {"token": server.token(scopes if login else []), "expires_in": 300}
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_POST(self):
                form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                scopes = [s for value in form.get("scope", []) for s in value.split()]
                given = form.get("refresh_token", [""])[0]
                server.requests.append((given, scopes))
                good = form.get("grant_type") == ["refresh_token"] and given == server.identity_token
                body = {"access_token": server.token(scopes), "expires_in": 300} if good else {"error": "invalid_grant"}
                data = json.dumps(body).encode()
                self.send_response(200 if good else 401)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", case.port()), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        thread.start()
        case.defer(self.stop)

    def stop(self):
        self._http.shutdown()
        self._http.server_close()

    def token(self, scopes):
        now = int(time.time())
        der = self.case.folder("token") / "certificate.der"
        if not der.exists():
            self.case.run("openssl", "x509", "-in", self.certificate, "-outform", "DER", "-out", der)
        header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der.read_bytes()).decode()]}
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":", 2)
            access.append({"type": kind, "name": name, "actions": [a for a in actions.split(",") if a == "pull"]})
        claims = {"iss": self.issuer, "sub": "e2e", "aud": self.service, "exp": now + self.lifetime, "nbf": now - 60,
                  "iat": now, "jti": f"{now}-{len(self.requests)}", "access": access}
        signed = _base64url(json.dumps(header).encode()) + "." + _base64url(json.dumps(claims).encode())
        text = pathlib.Path(self.case.tmp / f"token/{threading.get_ident()}")
        text.write_text(signed)
        signature = text.with_suffix(".sig")
        self.case.run("openssl", "dgst", "-sha256", "-sign", self.key, "-out", signature, text)
        return signed + "." + _base64url(signature.read_bytes())
