#!/usr/bin/env python3
"""nginx with nchan, one worker; this script is its publisher. The command line and the frames of servers/common.hpp.

An event's publication is when it was due, so what the POST to nginx takes counts.
"""
import argparse
import glob
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time

p = argparse.ArgumentParser()
p.add_argument("--port", type=int, default=0)
p.add_argument("--connections", type=int, default=1)
p.add_argument("--rate", type=float, default=100)
p.add_argument("--size", type=int, default=180)
p.add_argument("--seconds", type=float, default=1)
p.add_argument("--core", type=int, default=-1)
p.add_argument("--publisher-core", type=int, default=-1)
o, _ = p.parse_known_args()

modules = glob.glob("/usr/lib/nginx/modules/ngx_nchan_module.so")
if not modules:
    sys.exit("nchan is missing: apt install libnginx-mod-nchan")
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
if not o.port:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        o.port = probe.getsockname()[1]


def ask(connection, request):
    """One request, its body."""
    connection.sendall(request)
    got = b""
    while b"\r\n\r\n" not in got:
        more = connection.recv(65536)
        if not more:
            raise ConnectionError("nginx closed the connection")
        got += more
    head, _, body = got.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    while len(body) < length:
        body += connection.recv(65536)
    return body


def post(n, name, t):
    body = json.dumps({"n": n, "t": t, "pad": ""}, separators=(",", ":"))
    body = body[:-2] + "x" * max(0, o.size - 45 - len(body)) + '"}'
    return (f"POST /publish HTTP/1.1\r\nHost: localhost\r\nX-EventSource-Event: {name}\r\nAccept: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}").encode()


with tempfile.TemporaryDirectory() as d:
    os.chmod(d, 0o755)
    with open(f"{d}/nginx.conf", "w", encoding="ascii") as f:
        f.write(f"""
load_module {modules[0]};
daemon off; master_process off; worker_processes 1; pid {d}/pid; error_log {d}/log crit; worker_rlimit_nofile 20000;
events {{ worker_connections 15000; }}
http {{
  access_log off; client_body_temp_path {d}/a; proxy_temp_path {d}/b; fastcgi_temp_path {d}/c; keepalive_requests 10000000;
  uwsgi_temp_path {d}/d; scgi_temp_path {d}/e; tcp_nodelay on;
  server {{
    listen 127.0.0.1:{o.port} backlog=4096;
    location = /publish {{ nchan_publisher; nchan_channel_id x; nchan_message_buffer_length 1000; nchan_message_timeout 5m; }}
    location = / {{ nchan_subscriber eventsource; nchan_channel_id x; nchan_subscriber_first_message newest; }}
  }}
}}
""")
    if o.core >= 0:
        os.sched_setaffinity(0, {o.core})
    nginx = subprocess.Popen(["nginx", "-p", d, "-c", f"{d}/nginx.conf", "-e", f"{d}/log"], stdout=subprocess.DEVNULL)
    try:
        if o.publisher_core >= 0:
            os.sched_setaffinity(0, {o.publisher_core})
        for attempt in range(200):
            try:
                door = socket.create_connection(("127.0.0.1", o.port))
                break
            except OSError:
                time.sleep(0.05)
        door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print(o.port, flush=True)
        status = b"GET /publish HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n"

        def subscribers():
            try:
                return json.loads(ask(door, status) or b"{}").get("subscribers", 0)
            except ValueError:
                return 0

        while subscribers() < o.connections:
            time.sleep(0.02)
        start = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        end = start + int(o.seconds * 1e9)
        n = 0
        while True:
            now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            due = start + int((n + 1) * 1e9 / o.rate) if o.rate > 0 else now
            if now > end or due > end:
                break
            if due > now:
                time.sleep((due - now) / 1e9)
            n += 1
            # nchan answers a publisher once the event was sent to the subscribers: flat out is one event after another.
            ask(door, post(n, "tick", due))
        ask(door, post(n + 1, "end", time.clock_gettime_ns(time.CLOCK_MONOTONIC)))
        while subscribers() > 0:
            time.sleep(0.05)
        with open(f"/proc/{nginx.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")")[1].split()
        tick = os.sysconf("SC_CLK_TCK")
        with open(f"/proc/{nginx.pid}/status", encoding="ascii") as f:
            peak = next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
        print(json.dumps({"published": n, "writes": 0, "user_s": int(fields[11]) / tick, "system_s": int(fields[12]) / tick,
                          "peak_kb": peak}))
    finally:
        nginx.terminate()
        nginx.wait()
