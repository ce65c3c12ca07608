#!/usr/bin/env python3
"""tail reads nginx with nchan through cut connections, without loss. nchan's ids are not numbers.

needs: python3 nginx
"""
import glob
import http.client
import os
import socket
import subprocess
import sys
import tempfile

import _client as client

COUNT = 1000
modules = glob.glob("/usr/lib/nginx/modules/ngx_nchan_module.so") or glob.glob("/usr/*/nginx/modules/ngx_nchan_module.so")
if not modules:
    client.skip("nchan is missing: apt install libnginx-mod-nchan")

with socket.create_server(("127.0.0.1", 0)) as probe:
    port = probe.getsockname()[1]

with tempfile.TemporaryDirectory() as d:
    os.chmod(d, 0o755)
    with open(f"{d}/nginx.conf", "w", encoding="ascii") as f:
        f.write(f"""
load_module {modules[0]};
daemon off; master_process off; worker_processes 1; pid {d}/pid; error_log {d}/log;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {d}/a; proxy_temp_path {d}/b; fastcgi_temp_path {d}/c;
  uwsgi_temp_path {d}/d; scgi_temp_path {d}/e;
  server {{
    listen 127.0.0.1:{port};
    location = /publish {{ nchan_publisher; nchan_channel_id x; nchan_message_buffer_length {COUNT};
                           nchan_message_timeout 5m; }}
    location = /events {{ nchan_subscriber eventsource; nchan_channel_id x; nchan_subscriber_first_message oldest; }}
  }}
}}
""")
    server = client.spawn("nginx", "-p", d, "-c", f"{d}/nginx.conf", "-e", f"{d}/log")

    def publish(n):
        post = http.client.HTTPConnection("127.0.0.1", port, timeout=client.DEADLINE)
        post.request("POST", "/publish", f"message {n}\nof {COUNT}", {"X-EventSource-Event": f"type{n % 3}"})
        client.check(post.getresponse().status in (201, 202), "nchan takes a message")
        post.close()

    for attempt in range(200):
        try:
            publish(1)
            break
        except OSError:
            if server.poll() is not None:
                with open(f"{d}/log", encoding="utf-8") as log:
                    sys.exit("FAILED: nginx did not start: " + log.read()[-500:])
            try:
                server.wait(0.05)
            except subprocess.TimeoutExpired:
                pass
    cutter = client.Cutter(port, 3000, 1)
    tail = client.Tail(f"http://127.0.0.1:{cutter.port}/events", "--json", "--count", str(COUNT), "--retry", "10")
    for n in range(2, COUNT + 1):  # half of it while tail reads, half of it before
        publish(n)
        if n == COUNT // 2:
            tail.until("some events", lambda: len(tail.out) > 10)
    client.equal(tail.end(), 0, "tail's exit code")
    events = tail.events()
    client.equal([e["data"] for e in events], [f"message {n}\nof {COUNT}" for n in range(1, COUNT + 1)], "events")
    client.equal([e["type"] for e in events], [f"type{n % 3}" for n in range(1, COUNT + 1)], "types")
    client.equal(len({e["lastEventId"] for e in events}), COUNT, "different ids")
    client.check(cutter.cuts > 10, f"only {cutter.cuts} cuts")
    print(f"ok: {COUNT} events over {cutter.cuts} cuts")
