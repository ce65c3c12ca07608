#!/usr/bin/env python3
"""nginx, one worker, that terminates TLS in front of our epoll host. The command line of servers/common.hpp; all but port, core,
certificate and key go to the host, which is pinned as nginx is. The report: the host's, with nginx's CPU time and memory added.
"""
import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time

p = argparse.ArgumentParser()
p.add_argument("--behind", required=True)
p.add_argument("--certificate", required=True)
p.add_argument("--key", required=True)
p.add_argument("--port", type=int, default=0)
p.add_argument("--core", type=int, default=-1)
o, others = p.parse_known_args()

resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
if not o.port:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        o.port = probe.getsockname()[1]

with tempfile.TemporaryDirectory() as d:
    os.chmod(d, 0o755)
    host = subprocess.Popen([o.behind, "--core", str(o.core), *others], stdout=subprocess.PIPE, text=True)
    behind = host.stdout.readline().strip()
    with open(f"{d}/nginx.conf", "w", encoding="ascii") as f:
        f.write(f"""
daemon off; master_process off; worker_processes 1; pid {d}/pid; error_log {d}/log crit; worker_rlimit_nofile 40000;
events {{ worker_connections 30000; }}
http {{
  access_log off; client_body_temp_path {d}/a; proxy_temp_path {d}/b; fastcgi_temp_path {d}/c;
  uwsgi_temp_path {d}/d; scgi_temp_path {d}/e; tcp_nodelay on;
  server {{
    listen 127.0.0.1:{o.port} ssl backlog=4096;
    ssl_certificate {o.certificate}; ssl_certificate_key {o.key}; ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
      proxy_pass http://127.0.0.1:{behind}; proxy_http_version 1.1; proxy_buffering off; proxy_read_timeout 1h;
    }}
  }}
}}
""")
    if o.core >= 0:
        os.sched_setaffinity(0, {o.core})
    nginx = subprocess.Popen(["nginx", "-p", d, "-c", f"{d}/nginx.conf", "-e", f"{d}/log"], stdout=subprocess.DEVNULL)
    try:
        for attempt in range(200):
            try:
                socket.create_connection(("127.0.0.1", o.port)).close()
                break
            except OSError:
                time.sleep(0.05)
        print(o.port, flush=True)
        report = json.loads(host.stdout.read().strip().splitlines()[-1])
        with open(f"/proc/{nginx.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")")[1].split()
        tick = os.sysconf("SC_CLK_TCK")
        with open(f"/proc/{nginx.pid}/status", encoding="ascii") as f:
            peak = next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
        report["user_s"] += int(fields[11]) / tick
        report["system_s"] += int(fields[12]) / tick
        report["peak_kb"] += peak
        print(json.dumps(report), flush=True)
    finally:
        for child in (nginx, host):
            child.terminate()
            child.wait()
