#!/usr/bin/env python3
"""Real rotations of each naming scheme under twenty readers that come and go, with SIGKILL of server and writer.

Each scheme has a directory, a server and readers of its own, all at once. A reader connects with the id of its last event,
reads some lines, and leaves; the server is killed twice and the writer once in between. In the end each reader must have
every line that stands in the files, once and in order, and no gap. Rotations are done by logrotate, svlogd, multilog,
cronolog (their clock is fast) and Python's own logging; that of log4j is done as its manual says.
What can come between two calls of the program is tried one by one in tests/logs/interleaving_test.cpp; here are the programs themselves.
usage: tests/e2e/rotations.py [PART OF A SCHEME'S NAME]   the program is $PROGRAMS/logs; ROTATIONS=50 takes longer.
"""
# needs: logrotate svlogd multilog cronolog faketime gzip
import asyncio
import gzip
import logging.handlers
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROTATIONS = int(os.environ.get("ROTATIONS", "20"))
READERS = 20
PER_FILE = 44  # lines; with LINE bytes each it is what multilog rotates at
LINE = 100
LINES = (ROTATIONS + 2) * PER_FILE
BETWEEN = 0.1  # seconds between two rotations
PATIENCE = 120  # seconds until all readers have all; a quiet machine needs two
AT_ONCE = 4  # schemes
PROGRAM = os.path.join(os.environ.get("PROGRAMS", "build/dev/bin"), "logs")


def line(n):
    return f"{n:07d} ".ljust(LINE - 1, "abcdefgh"[n % 8]) + "\n"


# --- writers, processes of their own: rotations.py --write SCHEME DIRECTORY FROM -----------------------------------------

def in_files(directory, first, rotate):
    """Appends, and rotates after each PER_FILE lines; the number says where it stands after it was killed."""
    for n in range(first, LINES):
        with open(directory / "app.log", "a", encoding="ascii") as out:
            out.write(line(n))
        if n % PER_FILE == PER_FILE - 1:
            rotate(n // PER_FILE)
        time.sleep(BETWEEN / PER_FILE)


def logrotate(directory, first, options, fast=lambda: []):
    conf, state = directory.parent / "conf", directory.parent / "state"
    conf.write_text(f"{directory}/app.log {{\n rotate 100\n missingok\n {options}\n}}\n", encoding="ascii")
    conf.chmod(0o644)

    def rotate(_):
        subprocess.run([*fast(), "logrotate", "-f", "-s", state, conf], check=True)
    in_files(directory, first, rotate)


def with_handler(handler, first, before=lambda n: None):
    handler.setFormatter(logging.Formatter("%(message)s"))
    for n in range(first, LINES):
        if n % PER_FILE == 0 and n:
            before(n // PER_FILE)
            handler.doRollover()
        handler.emit(logging.makeLogRecord({"msg": line(n)[:-1]}))
        time.sleep(BETWEEN / PER_FILE)


def python_size(directory, first):
    with_handler(logging.handlers.RotatingFileHandler(directory / "app.log", backupCount=100), first)


def python_time(directory, first):
    handler = logging.handlers.TimedRotatingFileHandler(directory / "app.log", when="S", utc=True)

    handler.shouldRollover = lambda record: False  # not by the clock

    def before(n):
        handler.rolloverAt = 1_758_000_000 + n
    with_handler(handler, first, before)


def log4j_max(directory, first):
    """DefaultRolloverStrategy with fileIndex="max": the newest has the highest number; what is full shifts down."""
    most = 40

    def rotate(n):
        files = sorted(directory.glob("app.log.*"), key=lambda p: int(p.suffix[1:]))
        if len(files) >= most:
            files[0].rename(directory / f"kept-{n:04d}")  # instead of deleting it: it is compared later
            for old in files[1:]:
                old.rename(directory / f"app.log.{int(old.suffix[1:]) - 1}")
            files.pop()
        (directory / "app.log").rename(directory / f"app.log.{len(files) + 1}")
    in_files(directory, first, rotate)


def through(directory, first, *command, each=lambda: None):
    """A logger that reads its standard input. The files say what it has written."""
    child = subprocess.Popen(command, stdin=subprocess.PIPE)
    for n in range(first, LINES):
        child.stdin.write(line(n).encode())
        child.stdin.flush()
        each()
        time.sleep(BETWEEN / PER_FILE)
    child.stdin.close()
    child.wait()


def svlogd(directory, first):
    (directory / "config").write_text(f"s{PER_FILE * LINE}\nn0\n", encoding="ascii")
    through(directory, first, "svlogd", directory)


def cronolog(directory, first):
    """It makes the link --symlink once; that it leads to the newest file is seen to here."""
    def link():
        newest = max(directory.glob("app.log.2*"), default=None)
        if newest and (not (directory / "app.log").is_symlink() or os.readlink(directory / "app.log") != newest.name):
            (directory / "new").unlink(missing_ok=True)
            (directory / "new").symlink_to(newest.name)
            (directory / "new").rename(directory / "app.log")
    through(directory, first, *fast_now(), "cronolog", f"{directory}/app.log.%Y%m%d-%H%M%S", each=link)


SCHEMES = {
    "logrotate": lambda d, n: logrotate(d, n, "nocompress"),
    "logrotate compress": lambda d, n: logrotate(d, n, "compress\n delaycompress"),
    "logrotate copytruncate": lambda d, n: logrotate(d, n, "copytruncate"),
    "logrotate extension": lambda d, n: logrotate(d, n, "extension .log"),
    "logrotate dateext": lambda d, n: logrotate(d, n, "dateext\n dateformat -%Y%m%d-%s", fast_now),
    "log4j max": log4j_max,
    "python size": python_size,
    "python time": python_time,
    "svlogd": svlogd,
    "multilog": lambda d, n: through(d, n, "multilog", "s4096", "n1000", str(d)),
    "cronolog": cronolog,
}


def fast_now():
    """A clock that is ten times as fast since the scheme began, also for a process that begins later."""
    began = float(os.environ["BEGAN"])
    at = 1_758_000_000 + (time.time() - began) * 10
    return ["faketime", "-f", time.strftime("@%Y-%m-%d %H:%M:%S", time.localtime(at)) + " x10"]


# --- what stands in the files ---------------------------------------------------------------------------------------------

def content(directory):
    """All lines, in the order in which they were written."""
    files = []
    for path in directory.iterdir():
        if path.is_symlink() or not re.match(r"app[.-]|current$|@|kept", path.name):
            continue
        # Half of one that was compressed when its writer was killed: the whole is beside it.
        if path.suffix == ".gz" and path.with_suffix("").exists() or path.suffix == ".backup":
            continue
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if data:
            files.append(data)
    # A copy that was not truncated behind, or only half done, when its writer was killed: the next one has all of it.
    files.sort(key=lambda data: (data[:7], len(data)))
    files = [data for data, following in zip(files, files[1:] + [b""]) if not following.startswith(data)]
    return files, [text for data in files for text in data.decode("ascii").splitlines()]


def next_number(directory):
    _, lines = content(directory)
    return max((int(text[:7]) for text in lines), default=-1) + 1


# --- readers --------------------------------------------------------------------------------------------------------------

class Reader:
    def __init__(self, test, number):
        self.test, self.random = test, random.Random(f"{test.name} {number}")
        self.last_id, self.got, self.visits, self.rotated = "0", [], 0, 0

    async def run(self):
        while not (self.test.expected and len(self.got) >= len(self.test.expected)):
            try:
                await self.visit(self.random.randrange(20, 400))
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            await asyncio.sleep(self.random.random() * 0.3)

    async def visit(self, most):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.test.port)
        try:
            writer.write(f"GET /logs/{self.test.log} HTTP/1.1\r\nHost: 127.0.0.1\r\nLast-Event-ID: {self.last_id}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith((b"HTTP/1.1 503", b"HTTP/1.1 404")):  # 404: between two names
                return
            assert head.startswith(b"HTTP/1.1 200"), head
            self.visits += 1
            while most > 0:
                if self.test.expected and len(self.got) >= len(self.test.expected):
                    return
                try:
                    frame = (await asyncio.wait_for(reader.readuntil(b"\n\n"), 1)).decode("ascii")
                except asyncio.TimeoutError:
                    return
                most -= self.take(frame)
        finally:
            writer.close()

    def take(self, frame):
        fields = dict(f.split(": ", 1) for f in frame.strip().split("\n") if ": " in f and not f.startswith(":"))
        if "id" in fields:
            self.last_id = fields["id"]
        kind = fields.get("event", "")
        assert kind in ("", "rotated"), f"{self.test.name}: {frame!r} after {self.got[-1:]}"
        self.rotated += kind == "rotated"
        if kind or "data" not in fields:
            return 0
        data = fields["data"]
        assert not self.got or data[:7] > self.got[-1][:7], f"{self.test.name}: {data!r} after {self.got[-1]!r}"
        self.got.append(data)
        return 1


class Test:
    def __init__(self, name, root):
        self.name, self.root, self.port, self.expected = name, Path(root) / name.replace(" ", "_"), 0, None
        self.data = self.root / "data"
        self.data.mkdir(parents=True)
        self.log = "current" if name in ("svlogd", "multilog") else "app"
        self.children = []

    async def server(self):
        flags = ["--follow-links"] if self.name == "cronolog" else []
        with open(self.root / "log", "ab") as log:
            child = await asyncio.create_subprocess_exec(PROGRAM, "--port", str(self.port), "--data", str(self.data), *flags,
                                                         stdout=subprocess.PIPE, stderr=log)
        self.children.append(child)
        first = (await child.stdout.readline()).decode()
        assert first.startswith("listening on http://127.0.0.1:"), first
        self.port = int(first.rstrip("/\n").rpartition(":")[2])
        return child

    async def writer(self):
        first = next_number(self.data)
        child = await asyncio.create_subprocess_exec(sys.executable, __file__, "--write", self.name, str(self.data), str(first),
                                                     start_new_session=True, env={**os.environ, "BEGAN": str(self.began)})
        self.children.append(child)
        return child

    async def run(self):
        self.began = time.time()
        server, writer = await self.server(), await self.writer()
        readers = [Reader(self, n) for n in range(READERS)]
        tasks = [asyncio.create_task(r.run()) for r in readers]
        part = ROTATIONS * BETWEEN / 4
        for what in ("server", "writer", "server"):
            await asyncio.sleep(part)
            for task in tasks:
                if task.done():
                    task.result()
            if what == "server":
                server.kill()
                await server.wait()
                await asyncio.sleep(0.25)
                server = await self.server()
            else:
                os.killpg(writer.pid, signal.SIGKILL)
                await writer.wait()
                writer = await self.writer()
        assert await writer.wait() == 0, self.name
        files, self.expected = content(self.data)
        assert len(files) >= ROTATIONS, f"{self.name}: {len(files)} files"
        done, late = await asyncio.wait(tasks, timeout=PATIENCE, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
        for task in late:
            task.cancel()
        for r in readers:
            if r.got != self.expected:
                first = next(i for i, (a, b) in enumerate(zip(r.got + [""], self.expected + [""])) if a != b)
                raise AssertionError(f"{self.name}: {len(r.got)} of {len(self.expected)}, line {first} is {r.got[first:first + 1]}, not {self.expected[first:first + 1]}")
        server.send_signal(signal.SIGTERM)
        assert await server.wait() == 0
        print(f"{self.name}: {len(files)} files, {len(self.expected)} lines once and in order to {READERS} readers in "
              f"{sum(r.visits for r in readers)} visits", flush=True)

    def end(self):
        for child in self.children:
            if child.returncode is None:
                try:
                    os.killpg(child.pid, signal.SIGKILL)
                except ProcessLookupError:
                    child.kill()


async def run_all(part):
    with tempfile.TemporaryDirectory(prefix="ssehub_rotations_") as root:
        tests = [Test(name, root) for name in SCHEMES if part in name]
        try:
            at_once = asyncio.Semaphore(AT_ONCE)

            async def one(test):
                async with at_once:
                    await test.run()
            results = await asyncio.gather(*(one(t) for t in tests), return_exceptions=True)
        finally:
            for t in tests:
                t.end()
        for t, result in zip(tests, results):
            if isinstance(result, BaseException):
                print(f"FAILED {t.name}: {type(result).__name__} {result}", file=sys.stderr)
                log = [text for text in (t.root / "log").read_text("utf-8").splitlines() if "GET /" not in text]
                print("\n".join(log[-15:]), file=sys.stderr)
        return 1 if any(isinstance(r, BaseException) for r in results) else 0


if sys.argv[1:2] == ["--write"]:
    SCHEMES[sys.argv[2]](Path(sys.argv[3]), int(sys.argv[4]))
else:
    sys.exit(asyncio.run(run_all(sys.argv[1] if len(sys.argv) > 1 else "")))
