#!/usr/bin/env python3
"""What the programs refuse, from a flag to the answer: streams of one address, pages of other sites, files that cannot be read.

needs: python3
"""
import base64
import contextlib
import http.client
import os
import resource
import shutil
import socket
import subprocess
import tempfile
import time

from _client import DEADLINE, check, equal, program, spawn

BOB = base64.b64encode(b"bob:Bob:bob@example.com:user").decode()
STREAMS = {"gateway": "/api/stream", "logs": "/api/logs/stream", "chat": "/chat?room=a&user=b", "notifications": "/system/status/stream"}
ENTRY = '{"level":"info","component":"registry","message":"m","agent":"a"}'
POSTS = {"gateway": ("/api/cancel", '{"client_order_id":"nobody"}'), "logs": ("/api/logs", ENTRY),
         "chat": ("/chat/send", '{"user":"bob","room":"a","message":"m"}'),
         "notifications": ("/chat/send", '{"roomId":"general","message":"m"}')}
NOBODY = 65534


class Running:
    """A program over a directory of its own, and what it says on stderr."""

    def __init__(self, name, *flags, path=None, directory=None, **options):
        self.own = tempfile.mkdtemp()
        self.directory = directory or self.own
        self.said = open(os.path.join(self.own, "stderr"), "w+", encoding="utf-8")
        flags = [*flags, "--data", self.directory] if name == "logs" else flags
        self.child = spawn(path or program(name), "--port", "0", *flags, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=self.said, **options)
        self.port = int(self.child.stdout.readline().rsplit(b":", 1)[1].strip(b"/\n"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()
        self.child.stdout.close()
        self.said.close()
        shutil.rmtree(self.own)

    def file(self, name, content=b"x\n"):
        file = os.path.join(self.directory, name)
        with open(file, "wb") as out:
            out.write(content)
        return file

    def log(self):
        with open(self.said.name, encoding="utf-8") as log:
            return log.read()

    def says(self, line):
        until = time.monotonic() + DEADLINE
        while line not in self.log():
            check(time.monotonic() < until, f"{line!r} is not in its log: {self.log()}")
            time.sleep(0.02)

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)

    def ask(self, method, target, body=None, **headers):
        with contextlib.closing(self.connect()) as c:
            c.request(method, target, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = c.getresponse()
            return answer.status, answer.headers, answer.read()


class Streams:
    """Streams that stay open."""

    def __init__(self, server, target):
        self.server, self.target, self.open = server, target, []

    def status(self, **headers):
        """Of one more, which stays if it is a stream."""
        c = socket.create_connection(("127.0.0.1", self.server.port), DEADLINE)
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        c.sendall(f"GET {self.target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            more = c.recv(4096)
            check(more, f"the answer ends early: {head}")
            head += more
        self.open.append(c)
        return int(head.split()[1])

    def close(self):
        for c in self.open:
            c.close()


def test_64_streams_of_an_address_and_no_more():
    for name, target in STREAMS.items():
        with Running(name) as server, contextlib.closing(Streams(server, target)) as streams:
            for i in range(64):
                equal(streams.status(X_Forwarded_For=f"203.0.113.{i}"), 200, f"{name}: stream {i + 1}")
            equal(streams.status(X_Forwarded_For="203.0.113.200"), 429, f"{name}: the 65th, of a stranger who says that it is another")


def test_behind_a_trusted_proxy_each_reader_has_an_address_of_its_own():
    for name, target in STREAMS.items():
        with Running(name, "--trusted-proxy", "127.0.0.1") as server, contextlib.closing(Streams(server, target)) as streams:
            for i in range(64):
                equal(streams.status(X_Forwarded_For="203.0.113.1"), 200, f"{name}: stream {i + 1} of one reader")
            equal(streams.status(X_Forwarded_For="203.0.113.1"), 429, f"{name}: the 65th")
            equal(streams.status(X_Forwarded_For="203.0.113.1, 127.0.0.1"), 429, f"{name}: the 65th, through two proxies")
            equal(streams.status(X_Forwarded_For="203.0.113.2, 203.0.113.1"), 429, f"{name}: the 65th, that says it stands for another")
            equal(streams.status(X_Forwarded_For="203.0.113.2"), 200, f"{name}: another reader")


def test_pages_of_one_other_site_may_post_and_no_others():
    ours, theirs = "https://app.example", "https://other.example"
    for name, (target, body) in POSTS.items():
        with Running(name, "--cors", ours) as server:
            more = {"Content_Type": "application/json", "Authorization": f"Bearer {BOB}"}
            status, headers, answer = server.ask("POST", target, body, Origin=ours, **more)
            check(status in (200, 202), f"{name}: a post of the site that --cors names: {status} {answer}")
            equal(headers["Access-Control-Allow-Origin"], ours, f"{name}: who may read it")
            status, headers, answer = server.ask("POST", target, body, Origin=theirs, **more)
            equal(status, 403, f"{name}: a post of another site: {answer}")
            check(headers["Access-Control-Allow-Origin"] != theirs, f"{name}: another site may read that")
            status, headers, _ = server.ask("OPTIONS", target, Origin=ours, Access_Control_Request_Method="POST")
            check(status in (200, 204), f"{name}: the browser asks before: {status}")
            equal(headers["Access-Control-Allow-Origin"], ours, f"{name}: what it is told")


def test_what_is_written_in_latin_1_is_streamed_as_utf_8():
    for flags, wanted in ((("--encoding", "latin-1"), "caf\u00e9 \u00a3 \u0085."), ((), "caf\ufffd \ufffd \ufffd.")):
        with Running("logs", *flags) as server, contextlib.closing(server.connect()) as c:
            server.file("app.log", b"caf\xe9 \xa3 \x85.\n")
            c.request("GET", "/logs/app?backlog=1")
            answer = c.getresponse()
            line = answer.readline()
            while not line.startswith(b"data:"):
                line = answer.readline()
            equal(line.decode(), f"data: {wanted}\n", f"a line, with {flags}")


@contextlib.contextmanager
def for_nobody():
    """The log server where anybody can start it, and how to start it as somebody who may not read everything."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        yield shutil.copy(program("logs"), place), {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def test_a_log_that_may_not_be_read_is_403():
    with for_nobody() as (path, user), tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        with Running("logs", path=path, directory=directory, **user) as server:
            file = server.file("app.log")
            os.chmod(file, 0)
            status, headers, body = server.ask("GET", "/logs/app")
            equal(status, 403, f"a file that may not be read: {body}")
            check("Retry-After" not in headers, "it says to ask again")
            server.says("app.log cannot be opened: Permission denied")
            os.chmod(file, 0o644)
            os.chmod(directory, 0)
            status, _, body = server.ask("GET", "/logs/other")
            os.chmod(directory, 0o755)
            equal(status, 403, f"a directory that may not be entered any more: {body}")
            server.says("other.log cannot be opened: Permission denied")


def test_a_directory_that_may_not_be_read_is_said_at_the_start():
    with for_nobody() as (path, user), tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0)
        said = subprocess.run([path, "--port", "0", "--data", directory], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=DEADLINE, check=False, **user)
        os.chmod(directory, 0o700)
        equal((said.returncode, said.stderr), (2, f"logs: cannot read {directory}: Permission denied\n"), "exit code and stderr")


def test_a_log_for_which_no_descriptor_is_left_is_503():
    with Running("logs") as server, contextlib.closing(server.connect()) as c:
        server.file("app.log")

        def ask(target):
            c.request("GET", target)
            answer = c.getresponse()
            return answer.status, answer.headers["Retry-After"], answer.read() if answer.status != 200 else b""

        c.request("GET", "/health")   # from now on its connection is there
        equal(c.getresponse().read() != b"", True, "an answer")
        used = {int(n) for n in os.listdir(f"/proc/{server.child.pid}/fd")}
        lowest = next(n for n in range(len(used) + 1) if n not in used)
        before = resource.prlimit(server.child.pid, resource.RLIMIT_NOFILE, (lowest, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        equal(ask("/logs/app")[:2], (503, "1"), "no descriptor is left")
        server.says("app.log cannot be opened: Too many open files")
        resource.prlimit(server.child.pid, resource.RLIMIT_NOFILE, before)
        equal(ask("/logs/app")[0], 200, "then there is one")


for test in [f for name, f in list(globals().items()) if name.startswith("test_")]:
    test()
    print(f"ok {test.__name__}")
