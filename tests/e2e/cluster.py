#!/usr/bin/env python3
"""Three gateways over three nats-servers: clients hop between the gateways, which are killed, as is a server. Every client has every
event once, in order, with the same ids, and is told of no gap.

needs: python3 nats-server

SSEHUB_CLUSTER_KILLS=n: kills of a gateway; default 4.
SSEHUB_CLUSTER_READERS=n: default 30.
"""
import collections
import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

from _client import CHILDREN, check, equal, program, skip
from _cluster import OWN, Server, free_port, wait_for_health

ENGINE = """
import json, os, sys, time
run = f"R{os.getpid()}"
n = 0
while True:
    if not os.path.exists(sys.argv[1]):
        for _ in range(5):
            n += 1
            print(json.dumps({"type": "market", "symbol": run, "ts_ns": time.time_ns(), "price": n}))
        sys.stdout.flush()
    time.sleep(0.02)
"""
KILLS = int(os.environ.get("SSEHUB_CLUSTER_KILLS", "4"))
READERS = int(os.environ.get("SSEHUB_CLUSTER_READERS", "30"))


def nats_servers(directory):
    ports, routes = [free_port(OWN) for _ in range(3)], [free_port(OWN) for _ in range(3)]
    servers = []
    for i, port in enumerate(ports):
        config = f"{directory}/nats{i}.conf"
        with open(config, "w") as f:
            f.write(f'listen: {OWN}:{port}\nserver_name: n{i}\njetstream {{ store_dir: "{directory}/nats{i}" }}\n'
                    f'cluster {{ name: c, listen: "{OWN}:{routes[i]}", routes: '
                    f'[{", ".join(f"nats://{OWN}:{r}" for r in routes)}] }}\n')
        servers.append(Server(port, shutil.which("nats-server"), "-c", config, address=OWN))
    return servers


class Reader(threading.Thread):
    """An EventSource behind a balancer: it reconnects to any gateway with the last id that it got."""

    def __init__(self, gateways, last=None):
        super().__init__(daemon=True)
        self.gateways = gateways
        self.last = last
        self.events = []  # (id, data)
        self.wrong = []
        self.hops = 0
        self.ending = False
        self.start()

    def run(self):
        while not self.ending:
            try:
                self.stream(random.choice(self.gateways).port)
            except OSError:
                pass
            time.sleep(random.uniform(0.005, 0.05))

    def stream(self, port):
        with socket.create_connection(("127.0.0.1", port), 5) as s:
            resume = f"Last-Event-ID: {self.last}\r\n" if self.last is not None else ""
            s.sendall(f"GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n{resume}\r\n".encode())
            s.settimeout(20)
            rest = b""
            head = None
            until = time.monotonic() + random.uniform(0.1, 2)
            while not self.ending and time.monotonic() < until:
                got = s.recv(65536)
                if not got:
                    return
                rest += got
                if head is None:
                    head, found, body = rest.partition(b"\r\n\r\n")
                    if not found:
                        head = None
                        continue
                    rest = body
                    if not head.startswith(b"HTTP/1.1 200"):
                        self.wrong.append(head)
                        return
                    self.hops += 1
                *frames, rest = rest.split(b"\n\n")
                for frame in frames:
                    self.take(frame)

    def take(self, frame):
        found = re.search(rb"^id: (\d+)$", frame, re.M)
        if found is None:
            return
        number = int(found[1])
        if b"event: gap" in frame:
            self.wrong.append(frame)
        if self.last is not None and (number < self.last or (number == self.last and b"data:" in frame)):
            self.wrong.append(b"back from %d: " % self.last + frame)
        self.last = number
        if data := re.search(rb"^data: (.*)$", frame, re.M):
            self.events.append((number, data[1]))


def all_equal(readers):
    """No more comes: all have the same last id, for a while."""
    deadline = time.monotonic() + 120
    same_since = None
    seen = None
    while same_since is None or time.monotonic() - same_since < 2:
        check(time.monotonic() < deadline, f"the readers do not come to the same end: {collections.Counter(r.last for r in readers)}")
        now = {r.last for r in readers}
        if len(now) != 1 or now != seen:
            same_since = None
            seen = now
        elif same_since is None:
            same_since = time.monotonic()
        time.sleep(0.05)


def test_clients_hop_while_gateways_and_a_server_are_killed(directory):
    engine, pause = f"{directory}/engine", f"{directory}/pause"
    with open(engine, "w") as f:
        f.write(ENGINE)
    servers = nats_servers(directory)
    for s in servers:
        s.wait_until_it_listens()
    urls = ",".join(f"nats://{OWN}:{s.port}" for s in servers)
    ports = [free_port() for _ in range(3)]
    gateways = [Server(port, program("gateway"), "--port", str(port), "--per-address", "0", "--keep", "50", "--nats", urls,
                       "--node", f"g{i}", "--engine", f"python3 -u {engine} {pause}") for i, port in enumerate(ports)]
    for g in gateways:
        g.wait_until_it_listens()
        check('"node":"g' in wait_for_health(g.port, 200), "the node's name in /health")
    readers = [Reader(gateways) for _ in range(READERS)]
    for n in range(KILLS):
        time.sleep(random.uniform(0.3, 1.5))
        gateways[n % 2].kill()  # not the third, whose events must all be there
        if n == KILLS // 2:
            servers[0].kill()
        time.sleep(random.uniform(0, 0.5))
        gateways[n % 2].start()
        gateways[n % 2].wait_until_it_listens()
    servers[0].start()
    time.sleep(2)
    open(pause, "w").close()
    all_equal(readers)
    first = min(r.events[0][0] for r in readers)
    late = Reader(gateways, first - 1)  # gets all of it from the stream
    all_equal([*readers, late])
    for r in [*readers, late]:
        r.ending = True
        equal(r.wrong, [], "gaps, ids that ran back, refusals")
    truth = late.events
    place = {event[0]: i for i, event in enumerate(truth)}
    for r in readers:
        begin = place[r.events[0][0]]
        equal(r.events, truth[begin:], "what a reader got")
    runs = collections.defaultdict(list)
    for _, data in truth:
        if found := re.search(rb'"symbol":\s*"(R\d+)".*"price":\s*(\d+)', data):
            runs[found[1]].append(int(found[2]))
    check(len(runs) >= 3, "not all gateways published")
    for run, numbers in runs.items():
        equal(len(set(numbers)), len(numbers), f"events of {run} that came twice")
    whole = [run for run, numbers in runs.items() if sorted(numbers) == list(range(min(numbers), max(numbers) + 1))]
    check(whole, "no run is whole, not even that of the gateway that was never killed")
    with urllib.request.urlopen(f"http://127.0.0.1:{gateways[2].port}/metrics") as answer:
        metrics = answer.read().decode()
    equal(re.findall(r"^jetstream_(?:failed_total|epochs_total|lag) (\d+)", metrics, re.M), ["0"] * 3, "metrics")
    print(f"{KILLS} kills, {len(truth)} events, {sum(len(r.events) for r in readers)} received in {sum(r.hops for r in readers)} streams")

    for s in servers:
        s.kill()
    check("cluster_problem" in wait_for_health(gateways[0].port, 503), "a sentence in /health")
    for s in servers:
        s.start()
    wait_for_health(gateways[0].port, 200)


def main():
    with_nats = subprocess.run([program("gateway"), "--port", "0", "--nats", "nats://127.0.0.1:1"], capture_output=True, text=True)
    equal(with_nats.returncode, 2, "the exit code without servers")
    if "built without" in with_nats.stderr:
        skip("the gateway was built without cnats")
    check("127.0.0.1:1" in with_nats.stderr, with_nats.stderr)
    directory = tempfile.mkdtemp()
    try:
        test_clients_hop_while_gateways_and_a_server_are_killed(directory)
    finally:
        for child in CHILDREN:
            child.kill()
            child.wait()
        shutil.rmtree(directory, ignore_errors=True)


main()
