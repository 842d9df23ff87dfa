"""The servers that are compared, each with the settings that its own documentation recommends for this work.

Every one listens on 127.0.0.1 with one worker for each core that it may use, writes no access log (sluice writes its
own: it is on by default) and, where it is a cache, fetches from the origin below. Ports are below 32768, so that no
client's ephemeral port can be in the way.
"""

import shutil
import textwrap

from processes import Process

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"

NGINX = """
worker_processes {workers};
pid {folder}/{name}.pid;
error_log {folder}/{name}.error.log warn;
daemon off;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
  log_format upstream '$status $body_bytes_sent $request_uri $http_range';
  access_log {access_log};
  client_body_temp_path {folder}/{name}.body;
  proxy_temp_path {folder}/{name}.temp;
  fastcgi_temp_path {folder}/{name}.fastcgi;
  uwsgi_temp_path {folder}/{name}.uwsgi;
  scgi_temp_path {folder}/{name}.scgi;
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_requests 1000000000;
  open_file_cache max=10000 inactive=1h;
  open_file_cache_valid 1h;
  {http}
  server {{
    listen 127.0.0.1:{port} backlog=4096{ssl};
    {server}
  }}
}}
"""

# Blobs and manifests are plain files under the URL space of the registry API.
FILES = """
    root {objects};
    location = /v2/ {{ default_type application/json; return 200 '{{}}'; }}
    location ~ ^/v2/.*/manifests/(.*)$ {{
      default_type %s;
      add_header Docker-Content-Digest $1;
    }}
    location ~ ^/v2/.*/blobs/(.*)$ {{
      default_type application/octet-stream;
      add_header Docker-Content-Digest $1;
    }}
""" % MANIFEST_TYPE

PROXY = """
    location / {{
      proxy_pass http://127.0.0.1:{origin};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_cache blobs;
      proxy_cache_valid 200 1h;
      proxy_cache_lock on;
      proxy_cache_lock_timeout 1h;
      proxy_cache_lock_age 1h;
      proxy_max_temp_file_size 8192m;
      proxy_read_timeout 600s;
    }}
"""


class Bench:
    """Where everything of one run lies, and which certificate TLS servers use."""

    def __init__(self, folder, objects, binaries, certificate=None):
        self.folder, self.objects, self.binaries, self.certificate = folder, objects, binaries, certificate


def cores_of(count):
    return "0" if count == 1 else "0,1"


def nginx(bench, name, port, cores, http="", server="", access_log="off", tls=False):
    ssl = ""
    if tls:
        ssl = " ssl"
        server = f"ssl_certificate {bench.certificate[0]};\n    ssl_certificate_key {bench.certificate[1]};\n{server}"
    text = NGINX.format(workers=1 if cores in ("0", "1") else 2, folder=bench.folder, name=name, port=port, ssl=ssl, http=http,
                        server=server, access_log=access_log)
    path = bench.folder / f"{name}.conf"
    path.write_text(text)
    process = Process(name, ["nginx", "-c", path, "-p", bench.folder, "-e", bench.folder / f"{name}.error.log"], bench.folder, cores)
    process.wait_for_port(port)
    return process


def origin(bench, port=20000):
    """The registry: on the load's core, with an access log, because what the caches ask of it is counted there."""
    log = bench.folder / "origin.access.log"
    log.write_text("")
    process = nginx(bench, "origin", port, "1", server=FILES.format(objects=bench.objects), access_log=f"{log} upstream")
    process.port, process.access_log = port, log
    return process


def nginx_static(bench, port, cores, _origin, tls=False):
    return nginx(bench, f"nginx-static-{port}", port, cores_of(cores), server=FILES.format(objects=bench.objects), tls=tls)


def nginx_cache(bench, port, cores, origin_port, tls=False):
    name = f"nginx-cache-{port}"
    shutil.rmtree(bench.folder / f"{name}.cache", ignore_errors=True)
    cache = (f"proxy_cache_path {bench.folder}/{name}.cache levels=1:2 keys_zone=blobs:16m max_size=64g inactive=1h "
             "use_temp_path=off;")
    return nginx(bench, name, port, cores_of(cores), http=cache, server=PROXY.format(origin=origin_port), tls=tls)


def nginx_slice(bench, port, cores, origin_port, tls=False):
    """nginx_cache that fetches and keeps pieces of 1 MiB: nginx's own answer to ranges of large files."""
    name = f"nginx-slice-{port}"
    shutil.rmtree(bench.folder / f"{name}.cache", ignore_errors=True)
    cache = (f"proxy_cache_path {bench.folder}/{name}.cache levels=1:2 keys_zone=blobs:16m max_size=64g inactive=1h "
             "use_temp_path=off;")
    sliced = PROXY.format(origin=origin_port).replace(
        "proxy_cache_valid 200 1h;",
        "slice 1m; proxy_cache_key $uri$slice_range; proxy_set_header Range $slice_range; proxy_cache_valid 200 206 1h;")
    return nginx(bench, name, port, cores_of(cores), http=cache, server=sliced, tls=tls)


def varnish(bench, port, cores, origin_port, tls=False):
    assert not tls
    vcl = bench.folder / f"varnish-{port}.vcl"
    vcl.write_text(textwrap.dedent(f"""
        vcl 4.1;
        backend origin {{ .host = "127.0.0.1"; .port = "{origin_port}"; }}
        sub vcl_backend_response {{ set beresp.ttl = 1h; set beresp.do_stream = true; }}
    """))
    work = bench.folder / f"varnish-{port}"
    shutil.rmtree(work, ignore_errors=True)
    process = Process(f"varnish-{port}", ["varnishd", "-F", "-f", vcl, "-a", f"127.0.0.1:{port}", "-n", work, "-s", "malloc,6G",
                                  "-p", "http_gzip_support=off", "-p", "thread_pool_max=1000", "-j", "none"],
                      bench.folder, cores_of(cores))
    process.wait_for_port(port)
    return process


def haproxy(bench, port, cores, origin_port, tls=False):
    assert not tls
    path = bench.folder / f"haproxy-{port}.cfg"
    path.write_text(textwrap.dedent(f"""
        global
          nbthread {1 if cores == 1 else 2}
          maxconn 8000
        defaults
          mode http
          timeout client 60s
          timeout server 60s
          timeout connect 5s
        cache small
          total-max-size 64
          max-object-size 100000
          max-age 3600
        frontend front
          bind 127.0.0.1:{port}
          default_backend origin
        backend origin
          http-request cache-use small
          http-response set-header Cache-Control max-age=3600
          http-response cache-store small
          server origin 127.0.0.1:{origin_port}
    """))
    process = Process(f"haproxy-{port}", ["haproxy", "-f", path], bench.folder, cores_of(cores))
    process.wait_for_port(port)
    return process


def registry(bench, port, cores, origin_port, tls=False):
    assert not tls
    storage = bench.folder / f"registry-{port}.storage"
    shutil.rmtree(storage, ignore_errors=True)
    path = bench.folder / f"registry-{port}.yml"
    path.write_text(textwrap.dedent(f"""
        version: 0.1
        log: {{ level: error, accesslog: {{ disabled: true }} }}
        storage: {{ filesystem: {{ rootdirectory: {storage} }}, cache: {{ blobdescriptor: inmemory }} }}
        http: {{ addr: "127.0.0.1:{port}" }}
        proxy: {{ remoteurl: "http://127.0.0.1:{origin_port}" }}
    """))
    process = Process(f"registry-{port}", ["docker-registry", "serve", path], bench.folder, cores_of(cores),
                      {"OTEL_TRACES_EXPORTER": "none"})
    process.wait_for_port(port)
    return process


def sluice(bench, port, cores, origin_port, tls=False):
    data = bench.folder / f"sluice-{port}.data"
    shutil.rmtree(data, ignore_errors=True)
    arguments = [bench.binaries / "sluice", "serve", "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{port + 500}",
                 "--data", data, "--upstream", f"http://127.0.0.1:{origin_port}"]
    environment = {}
    if tls:
        environment = {"SLUICE_SERVER_TLS_CERT_FILE": str(bench.certificate[0]),
                       "SLUICE_SERVER_TLS_KEY_FILE": str(bench.certificate[1])}
    process = Process(f"sluice-{port}", arguments, bench.folder, cores_of(cores), environment)
    process.wait_for_port(port)
    return process


def floor_bytes(bench, port, cores, _origin, tls=False):
    process = Process(f"floor-{port}", [bench.binaries / "bench_floor", f"127.0.0.1:{port}", "bytes", 528], bench.folder,
                      cores_of(cores))
    process.wait_for_port(port)
    return process


def floor_file(path):
    def start(bench, port, cores, _origin, tls=False):
        process = Process(f"floor-{port}", [bench.binaries / "bench_floor", f"127.0.0.1:{port}", "file", path], bench.folder,
                          cores_of(cores))
        process.wait_for_port(port)
        return process
    return start
