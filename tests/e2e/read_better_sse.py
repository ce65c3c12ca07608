#!/usr/bin/env python3
"""tail reads Node's better-sse through cut connections and a killed server, without loss.

needs: node npm:better-sse
"""
import json
import os
import subprocess
import sys

import _client as client

COUNT = 2000
here = os.path.dirname(os.path.abspath(__file__))


def serve(port=0):
    child = client.spawn("node", os.path.join(here, "_better_sse_server.mjs"), str(COUNT), str(port),
                         stdout=subprocess.PIPE)
    return child, int(child.stdout.readline())


def check_events(events):
    client.equal([e["lastEventId"] for e in events], [str(n) for n in range(1, COUNT + 1)], "ids")
    for e in events:
        n = int(e["lastEventId"])
        client.equal((e["type"], json.loads(e["data"])),
                     ("odd" if n % 2 else "even", {"n": n, "text": "grüße\n" * (n % 4)}), "event")


server, port = serve()
events, cuts = client.read_through_cuts(port, "/", COUNT, 4000, 1)
check_events(events)
client.check(cuts > 20, f"only {cuts} cuts")
print(f"ok: {COUNT} events over {cuts} cuts")

# It is killed when some are read, and comes back on its port.
cutter = client.Cutter(port, 20000, 2)
tail = client.Tail(f"http://127.0.0.1:{cutter.port}/", "--json", "--count", str(COUNT), "--retry", "10")
tail.until("100 events", lambda: len(tail.out) > 100)
server.kill()
server.wait()
server, _ = serve(port)
client.equal(tail.end(), 0, "tail's exit code")
check_events(tail.events())
print("ok: over a killed server")
sys.exit(0)
