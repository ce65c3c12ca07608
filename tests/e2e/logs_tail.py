#!/usr/bin/env python3
"""A log that another process appends to at 10,000 lines/s is read by 100 readers while it is rotated and the server dies.

The log is renamed twice, once while the server is down after a SIGKILL, and copied and truncated once. Each reader
reconnects with the id of its last whole event. Every line must come once and in order to every reader. The lines are
those of real logs where ../shared/data/logs lies beside the checkout, else some like them.
usage: logs_tail.py [LOGS]   else $PROGRAMS/logs. LINES=N and READERS=N in the environment: other numbers.
"""
import asyncio
import hashlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINES = int(os.environ.get("LINES", "40000"))
READERS = int(os.environ.get("READERS", "100"))
RATE = 10_000
PATIENCE = 90  # seconds without any progress
POSITION = re.compile(rb"(?:^|(?<=\n\n))id: \d+\n\n")  # where a stream begins
ID_LINE = re.compile(rb"^id: \d+\n", re.MULTILINE)
LAST_ID = re.compile(rb"(?:^|\n)id: (\d+)\n")
OTHER = re.compile(rb"(?:^|(?<=\n\n))(?:event: (\w+)\ndata: [^\n]*|retry: \d+|: [^\n]*)\n\n")


def corpus():
    """Lines as they are in a file, without their LF."""
    lines = []
    for path in sorted((ROOT.parent / "shared/data/logs").glob("*.log")):
        lines += path.read_bytes().split(b"\n")[:-1]
    if not lines:
        kinds = [b"[Sun Dec 04 04:47:%02d 2005] [error] mod_jk child workerEnv in error state %d",
                 b"2015-07-29 19:04:%02d,394 - WARN  [SendWorker:%d@688] - Interrupted: a\tb", b"  at frame %d: %d\r",
                 b"progress %d%%\rprogress %d%%", b"nova-api.log 2017-05-16 00:00:%02d INFO \xc3\xa9t\xc3\xa9 status: %d\r"]
        lines = [kinds[i % len(kinds)] % (i % 60, i) for i in range(6000)] + [b"", b"\r", b"id: 7", b"event: x"]
    return lines


def line(i, lines):
    return b"%07d %s" % (i, lines[i % len(lines)])


def as_frame(text):
    """What a reader must get of it, without the id."""
    if text.endswith(b"\r"):
        text = text[:-1]
    return b"data: " + text.replace(b"\r", b"\ndata: ") + b"\n\n"


# --- the writer, a process of its own ---------------------------------------------------------------------------------

def shift(directory):
    """As logrotate does: app.log.2 becomes app.log.3 and so on; app.log.1 is free then."""
    for n in range(9, 0, -1):
        if (directory / f"app.log.{n}").exists():
            (directory / f"app.log.{n}").rename(directory / f"app.log.{n + 1}")


def write(directory):
    """Appends at RATE, in pieces that end anywhere; a line on stdin says when to rotate, and how."""
    lines, path = corpus(), directory / "app.log"
    out = open(path, "ab", buffering=0)
    begin, done, rest = time.monotonic(), 0, b""
    while done < LINES:
        due = min(LINES, int((time.monotonic() - begin) * RATE) + 1)
        new = b"".join(line(i, lines) + b"\n" for i in range(done, due))
        done = due
        rest += new
        cut = len(rest) if done == LINES else max(0, len(rest) - done % 40)
        out.write(rest[:cut])
        rest = rest[cut:]
        command = os.read(0, 100) if select.select([0], [], [], 0)[0] else b""
        if command:
            out.write(rest)  # a line does not go on in the next file
            rest = b""
            shift(directory)
            if command.strip() == b"rename":
                path.rename(directory / "app.log.1")
                out.close()
                out = open(path, "ab", buffering=0)
            else:
                shutil.copyfile(path, directory / "app.log.1")
                os.truncate(path, 0)
            print("rotated", flush=True)
        time.sleep(0.005)
    out.write(rest)
    print("written", flush=True)


# --- the readers --------------------------------------------------------------------------------------------------------

class Reader(asyncio.Protocol):
    def __init__(self, test, number):
        self.test, self.number = test, number
        self.last_id, self.next, self.connections, self.frames = None, 0, 0, {}
        self.digest = hashlib.blake2b()
        self.transport = None

    async def keep_reading(self):
        while self.next < LINES:
            self.ended = asyncio.get_running_loop().create_future()
            self.buffer, self.open = b"", False
            try:
                await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self.test.port)
                await self.ended
            except ConnectionError:
                pass
            await asyncio.sleep(0.1)

    def connection_made(self, transport):
        self.transport = transport
        self.connections += 1
        resume = f"Last-Event-ID: {self.last_id}\r\n" if self.last_id else ""
        transport.write(f"GET /logs/app?last_id=0 HTTP/1.1\r\nHost: localhost\r\n{resume}\r\n".encode())

    def connection_lost(self, _):
        if not self.ended.done():
            self.ended.set_result(None)

    def data_received(self, data):
        try:
            self.take(data)
        except AssertionError as e:
            self.test.failed = self.test.failed or str(e)
            self.transport.abort()

    def take(self, data):
        self.buffer += data
        if not self.open:
            head, empty, rest = self.buffer.partition(b"\r\n\r\n")
            if not empty:
                return
            assert head.startswith(b"HTTP/1.1 200 "), head
            self.open, self.buffer = True, rest
            self.test.opened += 1
        end = self.buffer.rfind(b"\n\n") + 2
        if end == 1:
            return
        whole, self.buffer = self.buffer[:end], self.buffer[end:]
        at = whole.rfind(b"id: ")
        while at > 0 and whole[at - 1:at] != b"\n":
            at = whole.rfind(b"id: ", 0, at)
        if at >= 0 and (match := re.match(rb"id: (\d+)\n", whole[at:])):
            self.last_id = match[1].decode()
        text = ID_LINE.sub(b"", POSITION.sub(b"", whole))
        if b"event: " in text or b"retry: " in text or b": " in text[:2] or b"\n: " in text:
            for match in OTHER.finditer(text):
                name = (match[1] or b"").decode()
                self.frames[name] = self.frames.get(name, 0) + 1
            text = OTHER.sub(b"", text)
        n = text.count(b"\n\n")
        if not n:
            return
        last = text.rfind(b"\n\n", 0, -2) + 2 if n > 1 else 0
        first, final = int(text[6:13]), int(text[last + 6:last + 13])
        assert (first, final) == (self.next, self.next + n - 1), \
            f"reader {self.number}, connection {self.connections}: lines {first} to {final} instead of {self.next} to " \
            f"{self.next + n - 1}"
        self.digest.update(text)
        self.next += n
        self.test.moved = time.monotonic()


class Readers:
    """All readers, in a process of their own: tells when they are there, then how it went."""

    def __init__(self, port):
        self.port, self.opened, self.failed, self.moved = port, 0, None, time.monotonic()

    async def until(self, what, condition):
        self.moved = time.monotonic()
        while not condition():
            assert not self.failed, self.failed
            assert time.monotonic() - self.moved < PATIENCE, f"waited in vain: {what}"
            await asyncio.sleep(0.02)

    async def run(self):
        readers = [Reader(self, i) for i in range(READERS)]
        tasks = [asyncio.create_task(r.keep_reading()) for r in readers]
        await self.until("all readers are there", lambda: self.opened == READERS)
        print("opened", flush=True)
        await self.until("every reader has every line", lambda: all(r.next >= LINES for r in readers))
        for r in readers:
            r.transport.abort()
        await asyncio.gather(*tasks)
        lines, expected = corpus(), hashlib.blake2b()
        for i in range(LINES):
            expected.update(as_frame(line(i, lines)))
        for r in readers:
            assert r.next == LINES, (r.number, r.next)
            assert r.digest.digest() == expected.digest(), f"reader {r.number} got other text"
            assert r.frames.get("gap", 0) == 0, (r.number, r.frames)
            assert r.frames.get("rotated", 0) >= 3, (r.number, r.frames)
            assert r.connections >= 2, r.number
        print(f"{READERS} readers, {sum(r.connections for r in readers)} connections", flush=True)


class Children:
    def __init__(self, directory):
        self.directory, self.port, self.all = Path(directory), 0, []
        self.program = sys.argv[1] if len(sys.argv) > 1 else \
            os.environ.get("PROGRAMS", str(ROOT / "build/dev/bin")) + "/logs"

    def spawn(self, *command, **options):
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)
        self.all.append(child)
        return child

    def server(self):
        with open(self.directory / "log", "a", encoding="utf-8") as log:
            child = self.spawn(self.program, "--port", str(self.port), "--data", str(self.directory / "data"), "--per-address", "0",
                               stderr=log)
        first = child.stdout.readline()
        assert first.startswith("listening on http://127.0.0.1:"), first
        self.port = int(first.rstrip("/\n").rpartition(":")[2])
        return child

    def end(self):
        for child in self.all:
            if child.poll() is None:
                child.kill()
                child.wait()


def says(child, what):
    """Waits for a line of a child."""
    if not select.select([child.stdout], [], [], PATIENCE)[0]:
        raise AssertionError(f"waited in vain: {what}")
    got = child.stdout.readline()
    assert got.startswith(what), f"{got!r} instead of {what!r}"
    return got.strip()


def run(children):
    data = children.directory / "data"
    data.mkdir()
    (data / "app.log").touch()
    server = children.server()
    readers = children.spawn(sys.executable, __file__, "--read", str(children.port))
    says(readers, "opened")
    begin = time.monotonic()
    writer = children.spawn(sys.executable, __file__, "--write", str(data))

    def rotate(how):
        writer.stdin.write(how + "\n")
        writer.stdin.flush()
        says(writer, "rotated")

    part = LINES / RATE * 0.2
    time.sleep(part)
    rotate("rename")
    time.sleep(part)
    server.kill()
    server.wait()
    time.sleep(0.2)
    rotate("rename")  # while nobody looks
    time.sleep(0.2)
    server = children.server()
    time.sleep(part)
    rotate("truncate")
    says(writer, "written")
    written = time.monotonic() - begin
    report = says(readers, str(READERS))
    took = time.monotonic() - begin
    server.send_signal(signal.SIGTERM)
    assert server.wait(PATIENCE) == 0
    print(f"{LINES} lines in {written:.1f} s, 3 rotations, 1 SIGKILL: {report}, each line once and in order to each, "
          f"after {took:.1f} s")


def main():
    if sys.argv[1:2] == ["--write"]:
        return write(Path(sys.argv[2]))
    if sys.argv[1:2] == ["--read"]:
        return asyncio.run(Readers(int(sys.argv[2])).run())
    with tempfile.TemporaryDirectory(prefix="ssehub_logs_") as directory:
        children = Children(directory)
        try:
            run(children)
        except BaseException:
            sys.stderr.write("".join(Path(directory, "log").read_text(encoding="utf-8").splitlines(True)[-20:]))
            raise
        finally:
            children.end()


main()
