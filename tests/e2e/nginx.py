#!/usr/bin/env python3
# needs: nginx
"""Streams behind Debian's nginx arrive event by event: event i is read before event i+1 is published.

The gateway's, and both of the log server (E-19). Two proxies each: one with the lines that the contracts give for a stream,
one with a bare proxy_pass.
usage: nginx.py [GATEWAY [LOGS]]   else $PROGRAMS/gateway and $PROGRAMS/logs
"""
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GATEWAY = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("PROGRAMS", str(ROOT / "build/dev/bin")) + "/gateway"
LOGS = sys.argv[2] if len(sys.argv) > 2 else os.environ.get("PROGRAMS", str(ROOT / "build/dev/bin")) + "/logs"
PATIENCE = 20  # seconds for anything that must come

STREAM_LINES = """
        proxy_set_header Connection '';
        proxy_http_version 1.1;
        chunked_transfer_encoding off;
        proxy_buffering off;
        proxy_cache off;
        proxy_read_timeout 86400;
"""


def free_ports(n):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def start_nginx(directory, server_port, *streams):
    """Returns the process and its two ports: with the lines for these paths, and stock."""
    for _ in range(5):  # somebody else may take a free port first
        tuned, stock = free_ports(2)
        target = f"http://127.0.0.1:{server_port}"
        temp = "".join(f"  {kind}_temp_path {directory}/{kind};\n"
                       for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        tuned_paths = "\n".join(f"    location {path} {{\n        proxy_pass {target};{STREAM_LINES}    }}" for path in streams)
        conf = Path(directory, "nginx.conf")
        conf.write_text(f"""daemon off;
{"user root;" if os.geteuid() == 0 else ""}
worker_processes 1;
pid {directory}/pid;
error_log {directory}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
{temp}
  server {{
    listen 127.0.0.1:{tuned};
{tuned_paths}
    location / {{ proxy_pass {target}; }}
  }}
  server {{
    listen 127.0.0.1:{stock};
    location / {{ proxy_pass {target}; }}
  }}
}}
""")
        nginx = subprocess.Popen(["nginx", "-p", directory, "-c", str(conf), "-e", f"{directory}/error.log"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while nginx.poll() is None:
            try:
                for port in (tuned, stock):
                    socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
                return nginx, tuned, stock
            except ConnectionRefusedError:
                pass
        problem = nginx.stderr.read() + Path(directory, "error.log").read_text()
        if "Address already in use" not in problem:
            break
    sys.exit(f"nginx does not start:\n{problem}")


class Stream:
    def __init__(self, port, target="/api/stream", headers=None, media="text/event-stream; charset=utf-8"):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self.connection.request("GET", target, headers=headers or {})
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.status
        assert self.answer.getheader("Content-Type") == media, self.answer.getheaders()
        assert self.answer.getheader("Cache-Control") == "no-cache", self.answer.getheaders()

    def frame(self):
        """The next frame as a dict, comments and an id alone skipped; None: the end."""
        fields = {}
        for line in iter(self.answer.readline, b""):
            line = line.decode().rstrip("\n")
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
            elif not line and fields:
                if list(fields) != ["id"]:
                    return fields
                fields = {}
        return None

    def close(self):
        self.answer.close()
        self.connection.close()


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def sessions(port):
    return next(int(line.split()[1]) for line in get(port, "/metrics")[1].splitlines() if line.startswith("sse_sessions "))


def check_proxy(name, port, gateway_port, engine, others):
    """Returns an open stream; `others` are open already."""
    def say(i):
        os.write(engine, b'{"type":"market","symbol":"%s","price":%d.0}\n' % (name.encode(), i))

    stream = Stream(port)
    first = None
    for i in range(1, 31):
        say(i)
        frame = stream.frame()
        assert frame and frame["event"] == "market" and f'"{name}","price":{i}.0' in frame["data"], (name, i, frame)
        first = first or int(frame["id"])
        assert int(frame["id"]) == first + i - 1, (name, i, frame)

    # What a browser does after a cut: the header, and by hand: the query.
    for resumed in (Stream(port, "/api/stream?last_id=1", {"Last-Event-ID": str(first + 9)}),
                    Stream(port, f"/api/stream?last_id={first + 9}")):
        assert int(resumed.frame()["id"]) == first + 10, name
        resumed.close()
    stream.close()
    end = time.monotonic() + PATIENCE
    while sessions(gateway_port) != others:  # nginx tells the gateway that its client is gone
        assert time.monotonic() < end, f"{name}: a closed stream stays open"

    assert get(port, "/health") == (200, '{"ok":true}'), name
    status, body = get(port, "/api/stream?last_id=abc")
    assert (status, body) == (400, '{"error":"bad_params"}'), (name, status, body)
    print(f"{name}: 30 events one by one, resume, close, refusal")
    return Stream(port)


def check_logs(name, port, log):
    """Entries and lines of a file, one by one; a cut and a resume."""
    media = "text/event-stream"
    entries = Stream(port, "/api/logs/stream", media=media)
    tail = Stream(port, "/logs/app", {"Accept": media}, media=media)
    ids = []
    for i in range(1, 31):
        body = json.dumps({"level": "info", "component": "mqtt", "message": f"{name} {i}"})
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        connection.request("POST", "/api/logs", body)
        assert connection.getresponse().status == 202, name
        connection.close()
        while True:  # the heartbeat, and requests of others, are entries too
            frame = entries.frame()
            assert list(frame) == ["data"], frame
            entry = json.loads(frame["data"])
            if entry["component"] == "mqtt":
                break
        assert entry["message"] == f"{name} {i}", (name, i, entry)
        with open(log, "a", encoding="utf-8") as out:
            out.write(f"{name}: line {i}\n")
        frame = tail.frame()
        assert frame["data"] == f"{name}: line {i}", (name, i, frame)
        ids.append(frame["id"])
        assert len(ids) < 2 or int(ids[-1]) > int(ids[-2]), ids
    resumed = Stream(port, "/logs/app", {"Last-Event-ID": ids[9]}, media=media)
    assert resumed.frame()["data"] == f"{name}: line 11", name
    for stream in (entries, tail, resumed):
        stream.close()
    print(f"{name}: 30 entries and 30 lines one by one, resume")


def run_logs():
    """E-19: the log server works behind nginx."""
    with tempfile.TemporaryDirectory(prefix="ssehub_nginx_") as directory:
        os.mkdir(f"{directory}/data")
        log = f"{directory}/data/app.log"
        Path(log).touch()
        server = subprocess.Popen([LOGS, "--port", "0", "--data", f"{directory}/data"], stdout=subprocess.PIPE,
                                  stderr=open(f"{directory}/log", "w"), text=True)
        nginx = None
        try:
            port = int(server.stdout.readline().rstrip("/\n").rpartition(":")[2])
            nginx, tuned, stock = start_nginx(directory, port, "/api/logs/stream", "/logs/")
            check_logs("logs, tuned", tuned, log)
            check_logs("logs, stock", stock, log)
        except BaseException:
            sys.stderr.write(Path(directory, "log").read_text())
            raise
        finally:
            for process in (nginx, server):
                if process and process.poll() is None:
                    process.terminate()
                    process.wait()


def main():
    with tempfile.TemporaryDirectory(prefix="ssehub_nginx_") as directory:
        fifo = f"{directory}/engine"
        os.mkfifo(fifo)
        engine = os.open(fifo, os.O_RDWR)
        gateway = subprocess.Popen([GATEWAY, "--port", "0", "--engine", f"cat {fifo}"], stdout=subprocess.PIPE,
                                   stderr=open(f"{directory}/log", "w"), text=True)
        nginx = None
        try:
            line = gateway.stdout.readline()
            assert line.startswith("listening on http://127.0.0.1:"), line
            port = int(line.rstrip("/\n").rpartition(":")[2])
            nginx, tuned, stock = start_nginx(directory, port, "/api/stream")
            streams = [check_proxy("tuned", tuned, port, engine, 0), check_proxy("stock", stock, port, engine, 1)]
            gateway.send_signal(signal.SIGTERM)
            for stream in streams:  # a clean end also through the proxy
                *_, last = iter(stream.frame, None)
                assert list(last) == ["retry"] and last["retry"].isdigit(), last
            assert gateway.wait(PATIENCE) == 0
            print("drain: both streams got a retry and a clean end")
        except BaseException:
            sys.stderr.write(Path(directory, "log").read_text())
            raise
        finally:
            os.close(engine)
            for process in (nginx, gateway):
                if process and process.poll() is None:
                    process.terminate()
                    process.wait()


if __name__ == "__main__":
    main()
    run_logs()
