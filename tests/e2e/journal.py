#!/usr/bin/env python3
"""The history of the programs survives kill -9: every reader has every event once and in order.

needs: python3

SSEHUB_JOURNAL_KILLS=n: kills of each test; default 8.
SSEHUB_JOURNAL_READERS=n: default 50.
"""
import base64
import json
import os
import random
import re
import socket
import subprocess
import tempfile
import threading
import time
from urllib.parse import quote

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
KILLS = int(os.environ.get("SSEHUB_JOURNAL_KILLS", "8"))
READERS = int(os.environ.get("SSEHUB_JOURNAL_READERS", "50"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Program:
    def __init__(self, *command):
        self.command = [program(command[0]), *command[1:]]
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def wait_until_it_listens(self):
        pass


class Server(Program):
    def __init__(self, name, *arguments, port=None):
        self.port = port or free_port()
        super().__init__(name, "--port", str(self.port), "--per-address", "0", *arguments)

    def wait_until_it_listens(self):
        for _ in range(2000):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                check(self.process.poll() is None, f"{self.command} ended by itself")
                time.sleep(0.01)
        check(False, f"{self.command} does not listen")


class Reader(threading.Thread):
    """An EventSource: reconnects with the last id that it got."""

    def __init__(self, port, path="/api/stream", last=None):
        super().__init__(daemon=True)
        self.port = port
        self.path = path
        self.ids = []
        self.gaps = []
        self.last = last
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
            s.sendall(f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n{resume}\r\n".encode())
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


def stored(directory, what=rb"^id: (\d+)$"):
    dump = subprocess.run([program("ssehub-journal"), "dump", directory], check=True, capture_output=True)
    return [int(n) if n.isdigit() else n for n in re.findall(what, dump.stdout, re.M)]


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
        g = Server("gateway", "--journal", directory, "--engine", f"python3 -u {directory}/engine", "--keep", "50")
        with open(f"{directory}/engine", "w") as f:
            f.write(ENGINE)
        g.start()
        g.wait_until_it_listens()
        readers = [Reader(g.port) for _ in range(READERS)]
        for _ in range(KILLS):
            time.sleep(random.uniform(0.05, 1.0))
            g.kill()
            g.start()
            g.wait_until_it_listens()
        time.sleep(0.5)
        g.kill()
        g = Server("gateway", "--follow", directory, "--keep", "50", port=g.port)
        g.start()
        g.wait_until_it_listens()
        finish(readers, directory)
        n = all_once(readers, directory, KILLS * 50)
        print(f"{KILLS} kills, {n} events, {sum(len(r.ids) for r in readers)} received by {len(readers)} readers")
        g.kill()


def test_an_engine_writes_and_a_gateway_serves_each_killed_alone():
    with tempfile.TemporaryDirectory() as directory:
        writer = Program("engine_journal", directory, "1000")
        writer.start()
        server = Server("gateway", "--follow", directory, "--keep", "50")
        wait_until_there(f"{directory}/head")
        server.start()
        server.wait_until_it_listens()
        readers = [Reader(server.port) for _ in range(READERS)]
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


def call(port, method, path, token="", body=None):
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        text = json.dumps(body) if body is not None else ""
        s.sendall(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"
                  f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
        answer = b""
        while got := s.recv(65536):
            answer += got
        head, _, content = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(content)


def test_notifications_survive():
    with tempfile.TemporaryDirectory() as directory:
        server = Server("notifications", "--journal", directory, "--keep", "5")
        server.start()
        server.wait_until_it_listens()
        token = base64.b64encode(b"7:ann:a@example.com:user").decode()
        readers = [Reader(server.port, f"/notifications/stream?token={quote(token)}") for _ in range(4)]
        while any(r.last is None for r in readers):  # told where they stand: nothing is missed
            time.sleep(0.01)
        posted = []
        for _ in range(KILLS):
            for n in range(20):
                status, answer = call(server.port, "POST", "/notifications/broadcast", token,
                                      {"type": "news", "title": "t", "message": f"number {n}"})
                equal(status, 200, answer)
                posted.append(int(answer["id"]))
            status, answer = call(server.port, "GET", "/health")
            equal((status, answer["ok"], answer["durability"]), (200, True, "page_cache"), answer)
            while answer["durable_id"] < posted[-1]:
                time.sleep(0.01)
                answer = call(server.port, "GET", "/health")[1]
            server.kill()
            server.start()
            server.wait_until_it_listens()
        finish(readers, directory)
        equal(stored(directory), posted, "what is stored")
        equal([int(json.loads(d)["id"]) for d in stored(directory, rb"^data: (.*)$")], posted, "what the data calls them")
        for r in readers:
            equal(r.gaps, [], "gap frames")
            equal(r.ids, posted, "what a reader got")
        server.kill()


def test_a_chat_survives():
    """Streams that were made at run time, and what each of them had; a reader has what was for it, and nothing else."""
    with tempfile.TemporaryDirectory() as directory:
        server = Server("chat", "--journal", directory, "--keep", "5")
        server.start()
        server.wait_until_it_listens()
        equal(call(server.port, "POST", "/streams", "", {"path": "/made/later"})[0], 201, "a stream is made")
        paths = {"/made/later": [], "/events": [], "/chat?room=general&user=ann": []}
        readers = {path: [Reader(server.port, path) for _ in range(3)] for path in paths}
        while any(r.last is None for of in readers.values() for r in of):  # told where they stand: nothing is missed
            time.sleep(0.01)
        n = 0
        for _ in range(KILLS):
            for _ in range(7):
                for body, who in (({"path": "/made/later"}, ["/made/later"]), ({"filter": {"room": "general"}}, ["/chat?room=general&user=ann"]), ({}, list(paths))):
                    n += 1
                    equal(call(server.port, "POST", "/send", "", {**body, "data": {"n": n}})[0], 200, "sent")
                    for path in who:
                        paths[path].append(n)
            while len(stored(directory)) < n:  # what was not stored yet goes with a kill, and nobody has seen it
                time.sleep(0.01)
            server.kill()
            server.start()
            server.wait_until_it_listens()
        ids = stored(directory)
        equal(len(ids), n, "what is stored")
        until = time.monotonic() + 60
        for path, of in readers.items():
            wanted = [ids[i - 1] for i in paths[path]]
            while any(r.ids != wanted for r in of):
                check(time.monotonic() < until, f"{path}: {[r.ids for r in of]}, not {wanted}")
                time.sleep(0.05)
            equal([r.gaps for r in of], [[]] * len(of), "gap frames")
        everything = Reader(server.port, "/made/later", last=0)
        while everything.ids != [ids[i - 1] for i in paths["/made/later"]]:
            check(time.monotonic() < until, "a reader that asks for everything does not get it")
            time.sleep(0.05)
        for r in [everything, *(r for of in readers.values() for r in of)]:
            r.ending = True
        server.kill()


def test_orders_are_known_after_a_kill():
    """What the gateway knows of orders comes from its journal again."""
    with tempfile.TemporaryDirectory() as directory:
        g = Server("gateway", "--journal", directory)
        g.start()
        g.wait_until_it_listens()
        order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "qty": 0.01, "price": 1, "client_order_id": "web-1"}
        status, answer = call(g.port, "POST", "/api/order", "", order)
        equal(status, 200, answer)
        until = time.monotonic() + 20
        while call(g.port, "GET", "/api/order_state?client_order_id=web-1")[0] != 200:
            check(time.monotonic() < until, "the order is not known")
            time.sleep(0.01)
        last = call(g.port, "GET", "/api/orders_state")[1]
        config = call(g.port, "GET", "/api/config")[1]
        while (now := call(g.port, "GET", "/api/config")[1])["durable_id"] <= config["durable_id"]:
            time.sleep(0.01)
        g.kill()
        g.start()
        g.wait_until_it_listens()
        equal(call(g.port, "GET", "/api/orders_state")[1], last, "orders after the kill")
        g.kill()


def wait_until_there(path):
    until = time.monotonic() + 20
    while not os.path.exists(path):
        check(time.monotonic() < until, f"{path} does not come")
        time.sleep(0.01)


def main():
    test_orders_are_known_after_a_kill()
    test_notifications_survive()
    test_a_chat_survives()
    test_kills_under_load_lose_nothing_and_repeat_nothing()
    test_an_engine_writes_and_a_gateway_serves_each_killed_alone()


main()
