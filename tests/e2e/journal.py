#!/usr/bin/env python3
"""The gateway's history survives kill -9: every reader has every event once and in order.

needs: python3

SSEHUB_JOURNAL_KILLS=n: kills; default 12.
"""
import os
import random
import re
import socket
import subprocess
import tempfile
import threading
import time

from _client import check, equal, program

ENGINE = """
import json, sys, time
n = 0
while True:
    for _ in range(20):
        n += 1
        print(json.dumps({"type": "market", "symbol": "BTCUSDT", "ts_ns": time.time_ns(), "price": 100 + n % 50}))
    sys.stdout.flush()
    time.sleep(0.01)
"""
KILLS = int(os.environ.get("SSEHUB_JOURNAL_KILLS", "12"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Gateway:
    def __init__(self, *arguments):
        self.port = free_port()
        self.arguments = arguments
        self.process = None

    def start(self):
        self.process = subprocess.Popen([program("gateway"), "--port", str(self.port), *self.arguments],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def wait_until_it_listens(self):
        for _ in range(2000):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                check(self.process.poll() is None, "the gateway ended by itself")
                time.sleep(0.01)
        check(False, "the gateway does not listen")


class Reader(threading.Thread):
    """An EventSource: reconnects with the last id that it got."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port = port
        self.ids = []
        self.gaps = []
        self.last = None
        self.ending = False
        self.start()

    def run(self):
        while not self.ending:
            try:
                self.stream()
            except OSError:
                pass
            time.sleep(random.uniform(0.005, 0.05))

    def stream(self):
        with socket.create_connection(("127.0.0.1", self.port), 5) as s:
            resume = f"Last-Event-ID: {self.last}\r\n" if self.last is not None else ""
            s.sendall(f"GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n{resume}\r\n".encode())
            s.settimeout(20)
            rest = b""
            head = False
            until = time.monotonic() + random.uniform(0.5, 6)
            while not self.ending and time.monotonic() < until:  # some leave by themselves
                got = s.recv(65536)
                if not got:
                    return
                rest += got
                if not head:
                    if b"\r\n\r\n" not in rest:
                        continue
                    check(rest.startswith(b"HTTP/1.1 200"), rest[:100])
                    rest = rest.split(b"\r\n\r\n", 1)[1]
                    head = True
                *frames, rest = rest.split(b"\n\n")
                for frame in frames:
                    self.take(frame)

    def take(self, frame):
        found = re.search(rb"^id: (\d+)$", frame, re.M)
        if found is None:
            return
        self.last = int(found[1])
        if b"event: gap" in frame:
            self.gaps.append(frame)
        elif b"data:" in frame:
            self.ids.append(self.last)


def stored(directory):
    dump = subprocess.run([program("journal"), "dump", directory], check=True, capture_output=True)
    return [int(n) for n in re.findall(rb"^id: (\d+)$", dump.stdout, re.M)]


def all_once(readers, directory, enough):
    truth = stored(directory)
    check(len(truth) > enough, f"{len(truth)} events are too few to prove anything")
    place = {n: i for i, n in enumerate(truth)}
    for r in readers:
        equal(r.gaps, [], "gap frames")
        check(r.ids, "a reader got nothing")
        first = place[r.ids[0]]
        equal(r.ids, truth[first:first + len(r.ids)], "what a reader got")
        check(first + len(r.ids) >= len(truth), f"a reader stopped {len(truth) - first - len(r.ids)} events before the end")
    return len(truth)


def finish(readers, directory):
    """The writer is gone and the server is up: they get the rest."""
    end = stored(directory)[-1]
    deadline = time.monotonic() + 60
    while any(r.last is None or r.last < end for r in readers):
        check(time.monotonic() < deadline, "the readers do not come to the end")
        time.sleep(0.05)
    for r in readers:
        r.ending = True
    for r in readers:
        r.join()


def test_kills_under_load_lose_nothing_and_repeat_nothing():
    with tempfile.TemporaryDirectory() as directory:
        g = Gateway("--journal", directory, "--engine", f"python3 -u {directory}/engine", "--keep", "50")
        with open(f"{directory}/engine", "w") as f:
            f.write(ENGINE)
        g.start()
        g.wait_until_it_listens()
        readers = [Reader(g.port) for _ in range(20)]
        for _ in range(KILLS):
            time.sleep(random.uniform(0.05, 1.0))
            g.kill()
            g.start()
            g.wait_until_it_listens()
        time.sleep(0.5)
        g.kill()
        g.arguments = ("--follow", directory, "--keep", "50")
        g.start()
        g.wait_until_it_listens()
        finish(readers, directory)
        n = all_once(readers, directory, KILLS * 50)
        print(f"{KILLS} kills, {n} events, {sum(len(r.ids) for r in readers)} received by {len(readers)} readers")
        g.kill()


def test_an_engine_writes_and_a_gateway_serves_each_killed_alone():
    with tempfile.TemporaryDirectory() as directory:
        with open(f"{directory}/engine", "w") as f:
            f.write(ENGINE)
        writer = Gateway("--journal", directory, "--engine", f"python3 -u {directory}/engine")
        writer.start()
        writer.wait_until_it_listens()
        server = Gateway("--follow", directory, "--keep", "50")
        server.start()
        server.wait_until_it_listens()
        readers = [Reader(server.port) for _ in range(10)]
        for _ in range(KILLS):
            time.sleep(random.uniform(0.05, 0.6))
            victim = random.choice([writer, server])
            victim.kill()
            time.sleep(random.uniform(0, 0.1))
            victim.start()
            victim.wait_until_it_listens()
        time.sleep(0.5)
        writer.kill()
        finish(readers, directory)
        n = all_once(readers, directory, KILLS * 30)
        print(f"{KILLS} kills, {n} events, {sum(len(r.ids) for r in readers)} received by {len(readers)} readers")
        server.kill()


def main():
    test_kills_under_load_lose_nothing_and_repeat_nothing()
    test_an_engine_writes_and_a_gateway_serves_each_killed_alone()


main()
