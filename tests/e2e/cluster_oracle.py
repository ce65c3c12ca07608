#!/usr/bin/env python3
"""Clients hop between three gateways over three nats-servers while publishers publish and faults happen, one after another in an order
that a seed gives: each acknowledged event comes once and in order to each client, or a gap announces it; no id runs back.

Servers that disagree for good make a run void: one event on one server, another one under the same number on the next. The test looks for that
on their disks, says so, and begins again; after three such runs it ends as skipped, 77, which is no success. nats-server 2.9.10 does that when
a leader that was cut off from the others comes back, about once in three times, so that cut_server runs only where it is asked for; and in one
run of three without that.

The stream has one channel, so that ids are consecutive: a client's next event has the next id, unless a gap frame is in between. A gap
needs a reason: a history that changed, or what the stream's limits removed.

needs: python3 nats-server

SSEHUB_ORACLE_SEED=n: default 1. SSEHUB_ORACLE_SECONDS=n: go on for that long, each fault once at least; default 30, so once.
SSEHUB_ORACLE_HOPS=n: and until there were so many streams; default 1000. SSEHUB_ORACLE_CLIENTS=n: default 30.
SSEHUB_ORACLE_FAULTS=name,...: of those at the end of this file; default all but cut_server.
A million hops: SSEHUB_ORACLE_HOPS=1000000 SSEHUB_ORACLE_CLIENTS=100 tests/e2e/run tests/e2e/cluster_oracle.py
"""
import asyncio
import bisect
import glob
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

from _client import CHILDREN, check, equal, program, skip
from _cluster import OWN, Server, free_port, health

SEED = int(os.environ.get("SSEHUB_ORACLE_SEED", "1"))
SECONDS = float(os.environ.get("SSEHUB_ORACLE_SECONDS", "30"))
HOPS = int(os.environ.get("SSEHUB_ORACLE_HOPS", "1000"))
CLIENTS = int(os.environ.get("SSEHUB_ORACLE_CLIENTS", "30"))
STREAM = "sse_gateway"
SUBJECT = "sse.gateway.events"
PATIENCE = 120
ENGINE = """
import json, os, sys, time
run = f"R{os.getpid()}"
n = 0
while True:
    if not os.path.exists(sys.argv[1]):
        n += 1
        print(json.dumps({"type": "market", "symbol": run, "ts_ns": time.time_ns(), "price": n}), flush=True)
    time.sleep(0.05)
"""


class Link:
    """A network between two programs that can be cut: bytes stop, connections stay."""

    def __init__(self, to):
        self.to = to
        self.whole = asyncio.Event()
        self.whole.set()

    async def start(self):
        self.server = await asyncio.start_server(self.serve, OWN, 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def serve(self, reader, writer):
        await self.whole.wait()
        try:
            there, back = await asyncio.open_connection(OWN, self.to)
        except OSError:
            return writer.close()
        await asyncio.gather(self.pass_on(reader, back), self.pass_on(there, writer))

    async def pass_on(self, reader, writer):
        try:
            while data := await reader.read(65536):
                await self.whole.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()


class Nats:
    """A client of the servers: what the tests of the library need not be written with."""

    def __init__(self, ports):
        self.ports = ports
        self.writer = None
        self.waiting = {}
        self.number = 0
        self.inbox = f"_INBOX.{os.getpid()}.{id(self)}"

    async def connect(self):
        reader, self.writer = await asyncio.wait_for(asyncio.open_connection(OWN, random.choice(self.ports)), 2)
        await asyncio.wait_for(reader.readline(), 2)
        about = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "lang": "test", "version": "1"}
        self.writer.write(f"CONNECT {json.dumps(about)}\r\nSUB {self.inbox}.* 1\r\n".encode())
        self.reading = asyncio.create_task(self.read(reader, self.writer))

    async def read(self, reader, writer):
        try:
            while line := await reader.readline():
                words = line.split()
                if words[0] == b"PING":
                    writer.write(b"PONG\r\n")
                elif words[0] in (b"MSG", b"HMSG"):
                    data = await reader.readexactly(int(words[-1]) + 2)
                    answer = self.waiting.pop(int(words[1].rpartition(b".")[2]), None)
                    if answer is not None and not answer.done():
                        answer.set_result(data[int(words[-2]) if words[0] == b"HMSG" else 0:-2])
        except (OSError, asyncio.IncompleteReadError):
            pass
        self.close()

    def close(self):
        if self.writer is not None:
            self.writer.close()
        self.writer = None
        for answer in self.waiting.values():
            answer.cancel()
        self.waiting = {}

    async def ask(self, subject, data="", message=None):
        """The answer, as JSON; None: there was none."""
        try:
            if self.writer is None:
                await self.connect()
            self.number += 1
            answer = self.waiting[self.number] = asyncio.get_running_loop().create_future()
            head = f"NATS/1.0\r\nNats-Msg-Id: {message}\r\n\r\n" if message else "NATS/1.0\r\n\r\n"
            self.writer.write(f"HPUB {subject} {self.inbox}.{self.number} {len(head)} {len(head) + len(data)}\r\n{head}{data}\r\n".encode())
            await asyncio.wait([answer], timeout=3)
            if answer.done() and not answer.cancelled() and answer.result():
                return json.loads(answer.result())
        except (OSError, asyncio.TimeoutError):
            pass
        self.close()  # another server next time
        await asyncio.sleep(0.1)
        return None

    async def must(self, what, data="", wanted=lambda answer: "error" not in answer):
        """Asks the API until the answer is as wanted."""
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = await self.ask(f"$JS.API.{what}.{STREAM}", data)
            if answer is not None and wanted(answer):
                return answer
            check(time.monotonic() < deadline, f"{what}: {answer}")
            await asyncio.sleep(0.2)


class Truth:
    """What is known of the order, from all clients and all receipts."""

    def __init__(self):
        self.text = {}  # by id
        self.receipts = []  # (history, sequence, text)
        self.history = 0  # the stream's; another one where it was made anew or put back
        self.floor = 0  # what has lower ids may be gone
        self.wrong = []

    def changed(self):
        """Another history begins: what a client had not got yet may be told to be lost."""
        self.history += 1
        self.removed()

    def removed(self):
        self.floor = max(self.text, default=0)

    def event(self, number, text):
        known = self.text.setdefault(number, text)
        if known != text:
            self.wrong.append(f"id {number} is {text!r} and {known!r}")


class Client:
    """An EventSource behind a balancer: it reconnects to any gateway with the last id that it got."""

    def __init__(self, number, seed, truth, gateways, last=None):
        self.name = f"client {number}"
        self.random = random.Random(seed * 1000 + number)
        self.truth = truth
        self.gateways = gateways
        self.last = last
        self.events = 0
        self.hops = 0
        self.gaps = []  # (last before, its id)
        self.may_sleep = True
        self.task = asyncio.create_task(self.run())

    async def run(self):
        while True:
            gateway = self.random.choice(self.gateways)
            try:
                await asyncio.wait_for(self.stream(gateway.port), self.random.random() ** 2 * 1.5 + 0.02)
            except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
                pass
            away = self.may_sleep and self.random.random() < 0.01
            await asyncio.sleep(self.random.uniform(3, 10) if away else self.random.uniform(0.005, 0.05))

    async def stream(self, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            resume = f"Last-Event-ID: {self.last}\r\n" if self.last is not None else ""
            writer.write(f"GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n{resume}\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                self.truth.wrong.append(f"{self.name}: {head!r}")
                return
            self.hops += 1
            while True:
                self.take(await reader.readuntil(b"\n\n"))
        finally:
            writer.close()

    def take(self, frame):
        found = re.search(rb"^id: (\d+)$", frame, re.M)
        if found is None:
            return
        number = int(found[1])
        before, self.last = self.last, number
        if before is not None and number < before:
            self.truth.wrong.append(f"{self.name}: ids run back from {before}: {frame!r}")
        if b"event: gap" in frame:
            self.gaps.append((before or 0, number))
        elif data := re.search(rb"^data: (.*)$", frame, re.M):
            self.events += 1
            if before is not None and number != before + 1:
                self.truth.wrong.append(f"{self.name}: behind {before} comes {frame!r}")
            self.truth.event(number, data[1].decode())
        elif before is not None and number != before:
            self.truth.wrong.append(f"{self.name}: at {before} it is told {frame!r}")


class Publisher:
    """Publishes through the servers, each event until it is acknowledged."""

    def __init__(self, name, truth, ports):
        self.name = name
        self.truth = truth
        self.nats = Nats(ports)
        self.may = asyncio.Event()
        self.may.set()
        self.idle = asyncio.Event()
        self.task = asyncio.create_task(self.run())

    async def run(self):
        for n in range(1, sys.maxsize):
            self.idle.set()
            await self.may.wait()
            self.idle.clear()
            text = f"{self.name} {n}"
            answer = None
            while answer is None or "error" in answer:
                answer = await self.nats.ask(SUBJECT, text, f"oracle.{os.getpid()}.{self.name}.{n}")
            self.truth.receipts.append((self.truth.history, answer["seq"], text))
            await asyncio.sleep(0.05)


class Cluster:
    def __init__(self, directory, seed):
        self.directory = directory
        self.seed = seed
        self.random = random.Random(seed)
        self.truth = Truth()
        self.pause = f"{directory}/pause"

    async def start(self):
        ports, routes = [free_port(OWN) for _ in range(3)], [free_port(OWN) for _ in range(3)]
        self.between = {(i, j): Link(routes[j]) for i in range(3) for j in range(3) if i != j}
        self.to_server = {(i, j): Link(ports[j]) for i in range(3) for j in range(3)}
        for link in [*self.between.values(), *self.to_server.values()]:
            await link.start()
        self.servers = []
        for i, port in enumerate(ports):
            config = f"{self.directory}/nats{i}.conf"
            with open(config, "w") as f:  # routes by the links alone: what servers tell each other of themselves leads nowhere
                f.write(f'listen: {OWN}:{port}\nserver_name: n{i}\njetstream {{ store_dir: "{self.directory}/store{i}" }}\n'
                        f'cluster {{ name: c, listen: "{OWN}:{routes[i]}", no_advertise: true, advertise: "127.0.0.1:1", routes: ['
                        + ", ".join(f"nats://{OWN}:{self.between[i, j].port}" for j in range(3) if j != i) + "] }\n")
            self.servers.append(Server(port, shutil.which("nats-server"), "-c", config, address=OWN))
        for server in self.servers:
            await asyncio.to_thread(server.wait_until_it_listens)
        self.admin = Nats(ports)
        probe = json.dumps({"name": "probe", "subjects": ["probe"], "retention": "limits", "storage": "file", "num_replicas": 3})
        deadline = time.monotonic() + PATIENCE
        while "error" in ((await self.admin.ask("$JS.API.STREAM.CREATE.probe", probe)) or {"error": "no answer"}):
            check(time.monotonic() < deadline, "the servers do not come together")
            await asyncio.sleep(0.2)
        engine = f"{self.directory}/engine"
        with open(engine, "w") as f:
            f.write(ENGINE)
        self.gateways = []
        for i in range(3):
            port = free_port()
            urls = ",".join(f"nats://{OWN}:{self.to_server[i, j].port}" for j in range(3))
            self.gateways.append(Server(port, program("gateway"), "--port", str(port), "--per-address", "0", "--keep", "50", "--nats", urls,
                                        "--node", f"g{i}", "--engine", f"python3 -u {engine} {self.pause}"))
        for gateway in self.gateways:
            await asyncio.to_thread(gateway.wait_until_it_listens)
        await self.settle()
        self.clients = [Client(n, self.seed, self.truth, self.gateways) for n in range(CLIENTS)]
        while any(c.last is None for c in self.clients):
            await asyncio.sleep(0.01)
        self.publishers = [Publisher(f"P{n}", self.truth, ports) for n in range(3)]

    async def info(self):
        return await self.admin.must("STREAM.INFO")

    async def settle(self):
        """All servers have the stream, and all gateways follow it."""

        def whole(answer):
            replicas = answer.get("cluster", {}).get("replicas", [])
            return "leader" in answer.get("cluster", {}) and len(replicas) == 2 and all(r.get("current") for r in replicas)

        await self.admin.must("STREAM.INFO", wanted=whole)
        deadline = time.monotonic() + PATIENCE
        for gateway in self.gateways:
            while (answer := await asyncio.to_thread(self.health, gateway))[0] != 200:
                check(time.monotonic() < deadline, f"/health is {answer}")
                await asyncio.sleep(0.1)

    @staticmethod
    def health(gateway):
        try:
            return health(gateway.port)
        except OSError:
            check(gateway.process.poll() is None, gateway.end())
            raise

    async def rest(self):
        """Nothing is published, and all that was is acknowledged or a gateway's."""
        for publisher in self.publishers:
            publisher.may.clear()
        for publisher in self.publishers:
            await asyncio.wait_for(publisher.idle.wait(), PATIENCE)

    def go_on(self):
        for publisher in self.publishers:
            publisher.may.set()

    async def leader(self):
        return int((await self.info())["cluster"]["leader"][1:])

    async def away(self, most=2.0):
        await asyncio.sleep(self.random.uniform(0.3, most))

    async def start_servers(self):
        for server in self.servers:
            server.start()
        for server in self.servers:
            await asyncio.to_thread(server.wait_until_it_listens)

    # --- faults

    async def kill_gateway(self):
        gateway = self.random.choice(self.gateways)
        gateway.kill()
        await self.away(1)
        gateway.start()
        await asyncio.to_thread(gateway.wait_until_it_listens)

    async def kill(self, i):
        self.servers[i].kill()
        await self.away()
        self.servers[i].start()
        await asyncio.to_thread(self.servers[i].wait_until_it_listens)

    async def kill_server(self):
        await self.kill(self.random.randrange(3))

    async def kill_leader(self):
        await self.kill(await self.leader())

    async def pause_server(self):
        server = self.servers[self.random.choice([await self.leader(), self.random.randrange(3)])]
        server.process.send_signal(signal.SIGSTOP)
        await self.away(6)
        server.process.send_signal(signal.SIGCONT)

    async def cut(self, links):
        for link in links:
            link.whole.clear()
        await self.away(6)
        for link in links:
            link.whole.set()

    async def cut_server(self):
        i = await self.leader()
        await self.cut([link for (a, b), link in self.between.items() if i in (a, b)] +
                       [link for (_, b), link in self.to_server.items() if b == i])

    async def cut_gateway(self):
        i = self.random.randrange(3)
        await self.cut([link for (a, _), link in self.to_server.items() if a == i])

    async def delete_stream(self):
        await self.rest()
        config = (await self.info())["config"]
        await self.admin.must("STREAM.DELETE", wanted=lambda answer: True)
        await self.away(3)
        await self.admin.must("STREAM.CREATE", json.dumps(config))
        self.truth.changed()
        self.go_on()

    async def put_back(self):
        await self.rest()
        for server in self.servers:
            server.process.terminate()
        for server in self.servers:
            await asyncio.to_thread(server.process.wait, PATIENCE)
            server.kill()
        for i in range(3):
            shutil.copytree(f"{self.directory}/store{i}", f"{self.directory}/copy{i}")
        await self.start_servers()
        self.go_on()
        await self.settle()
        await self.away(1)
        await self.rest()
        for server in self.servers:
            server.kill()
        for i in range(3):
            shutil.rmtree(f"{self.directory}/store{i}")
            os.rename(f"{self.directory}/copy{i}", f"{self.directory}/store{i}")
        self.truth.changed()
        await self.start_servers()
        self.go_on()

    async def purge(self):
        answer = await self.admin.must("STREAM.PURGE", wanted=lambda answer: True)
        check("error" in answer, f"the stream was purged: {answer}")

    async def update(self, **changes):
        await self.admin.must("STREAM.UPDATE", json.dumps((await self.info())["config"] | changes))

    async def drop_old(self):
        await self.update(max_msgs=self.random.randrange(1, 100))
        await self.away()
        await self.update(max_msgs=-1)
        self.truth.removed()

    async def age_out(self):
        await self.rest()
        open(self.pause, "w").close()
        await self.admin.must("STREAM.INFO", wanted=lambda answer: True)
        config = (await self.info())["config"]
        await self.update(max_age=1_500_000_000, duplicate_window=1_500_000_000)
        await self.admin.must("STREAM.INFO", wanted=lambda answer: answer.get("state", {}).get("messages") == 0)
        await self.update(max_age=config["max_age"], duplicate_window=config["duplicate_window"])
        self.truth.removed()
        os.remove(self.pause)
        self.go_on()

    # --- the end

    async def finish(self):
        await self.rest()
        open(self.pause, "w").close()
        for client in self.clients:
            client.may_sleep = False
        await self.settle()
        first = min(self.truth.text) - 1
        self.clients.append(Client(len(self.clients), self.seed, self.truth, self.gateways, first))
        deadline = time.monotonic() + PATIENCE
        since, seen = time.monotonic(), None
        while time.monotonic() - since < 3:
            now = {c.last for c in self.clients}
            if len(now) != 1 or now != seen:
                since, seen = time.monotonic(), now
            check(time.monotonic() < deadline, f"the clients do not come to one end: {sorted(now)}")
            await asyncio.sleep(0.05)

    def judge(self):
        truth = self.truth
        equal(truth.wrong[:5], [], f"{len(truth.wrong)} times what must not be")
        ids = sorted(truth.text)
        of_text = {}
        for number in ids:
            of_text.setdefault(truth.text[number], []).append(number)
        bases = {}
        for history, sequence, text in truth.receipts:
            for number in of_text.get(text, []):
                bases.setdefault(history, set()).add(number - sequence)
        for text, numbers in of_text.items():  # stored once more only where the servers forgot
            for a, b in zip(numbers, numbers[1:]):
                check(bisect.bisect(ids, b) - bisect.bisect(ids, a) != b - a, f"{text} came twice: {a}, {b}")
        lost = 0
        for history, sequence, text in truth.receipts:
            if text in of_text:
                continue
            lost += 1
            places = bases.get(history, set())
            check(len(places) > 0 or history < truth.history, f"nobody got {text}, nor what is near")
            for base in places:
                for client in self.clients:
                    check(any(a < base + sequence <= g for a, g in client.gaps),
                          f"{text} was acknowledged as {base + sequence}, {client.name} was told of no gap there: {client.gaps}")
        for client in self.clients:
            for before, number in client.gaps:
                whole = bisect.bisect(ids, number) - bisect.bisect(ids, before) == number - before
                check(not whole or before < truth.floor, f"{client.name}: a gap without a reason behind {before}, up to {number}")
        print(f"seed {self.seed}: {len(ids)} events, {len(truth.receipts)} receipts, {lost} of these lost and announced, "
              f"{truth.history + 1} histories, {sum(len(c.gaps) for c in self.clients)} gaps, "
              f"{sum(c.events for c in self.clients)} received in {sum(c.hops for c in self.clients)} streams")


FAULTS = {f.__name__: f for f in (
    Cluster.kill_gateway, Cluster.kill_server, Cluster.kill_leader, Cluster.pause_server, Cluster.cut_server, Cluster.cut_gateway,
    Cluster.delete_stream, Cluster.put_back, Cluster.purge, Cluster.drop_old, Cluster.age_out)}


def stored(directory, i):
    """What a server has on its disk: time and data by sequence."""
    events = {}
    for name in glob.glob(f"{directory}/store{i}/jetstream/*/streams/{STREAM}/msgs/*.blk"):
        with open(name, "rb") as f:
            block = f.read()
        at = 0
        while at + 22 <= len(block):
            length, sequence, stamp, subject = struct.unpack_from("<IQqH", block, at)
            if length & 0x7FFFFFFF < 30:
                break
            if sequence < 1 << 60:  # else it was removed
                events[sequence] = (stamp, block[at + 22 + subject:at + (length & 0x7FFFFFFF) - 8])
            at += length & 0x7FFFFFFF
    return events


def where_servers_disagree(directory):
    """A sequence that has one event on one server and another one on another: nothing that is made of such a stream is right."""
    a, b, c = (stored(directory, i) for i in range(3))
    return next((n for n in sorted(a.keys() | b.keys()) if len({each[n] for each in (a, b, c) if n in each}) > 1), None)


async def run(directory, seed):
    cluster = Cluster(directory, seed)
    await cluster.start()
    names = [n for n in os.environ.get("SSEHUB_ORACLE_FAULTS", "").split(",") if n] or [n for n in FAULTS if n != "cut_server"]
    began = time.monotonic()
    first = True
    while first or time.monotonic() - began < SECONDS or sum(c.hops for c in cluster.clients) < HOPS:
        first = False
        cluster.random.shuffle(names)
        for name in names:
            print(f"{time.monotonic() - began:6.1f} s  {name}", flush=True)
            await FAULTS[name](cluster)
            await cluster.settle()
            await cluster.away(1)
            equal(cluster.truth.wrong[:5], [], f"after {name}")
    await cluster.finish()
    cluster.judge()


def is_judged(seed):
    """False: the servers broke what they promise, so that the run says nothing."""
    directory = tempfile.mkdtemp()
    try:
        asyncio.run(run(directory, seed))
    except Exception as e:
        print(f"SSEHUB_ORACLE_SEED={seed}", file=sys.stderr)
        sequence = where_servers_disagree(directory)
        if sequence is None:
            raise
        print(f"the servers store different events as number {sequence}: this run says nothing; {str(e)[:300]}", flush=True)
        return False
    finally:
        for child in CHILDREN:
            child.kill()
            child.wait()
        CHILDREN.clear()
        shutil.rmtree(directory, ignore_errors=True)
    return True


def main():
    with_nats = subprocess.run([program("gateway"), "--port", "0", "--nats", "nats://127.0.0.1:1"], capture_output=True, text=True)
    if "built without" in with_nats.stderr:
        skip("the gateway was built without cnats")
    if not any(is_judged(SEED + n) for n in range(3)):  # what happened before that was looked at after each fault
        print("LEFT OUT: cluster_oracle: the servers stored different events under one number in each of three runs, so that nothing was "
              "judged; a newer nats-server does not, or try another SSEHUB_ORACLE_SEED")  # .ci/run says it again at its end
        sys.exit(77)


main()
