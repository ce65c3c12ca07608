#!/usr/bin/env python3
"""tests/conformance/service does what a harness such as LaunchDarkly's sse-contract-tests asks of it.

This plays the harness's part, capability by capability. For the harness itself: conformance_service --port 8000, then
sse-contract-tests --url http://localhost:8000

needs: python3
"""
import http.client
import json
import queue
import subprocess
import sys
import threading

import _client as client
from _client import NO_CONTENT, STREAM, Server, check, equal, header

OK = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"


def ask(method, path, body=None):
    """-> status, headers, body"""
    c = http.client.HTTPConnection("127.0.0.1", PORT, timeout=client.DEADLINE)
    c.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
    r = c.getresponse()
    answer = r.status, r.headers, r.read()
    c.close()
    return answer


class Stream:
    """A stream endpoint of the harness, and a client of the service that reads it."""

    def __init__(self, first=None, **parameters):
        self.connections, self.callbacks, self.numbers = queue.Queue(), queue.Queue(), []
        self.first = first
        self.server = Server(self._stream)
        self.receiver = Server(self._callback)
        status, headers, _ = ask("POST", "/", {
            "tag": "test", "streamUrl": self.server.url("/endpoints/1"), "callbackUrl": self.receiver.url("/endpoints/2"),
            "initialDelayMs": 0, **parameters})
        equal(status // 100, 2, "status")
        self.path = headers["Location"]
        check(self.path.startswith("/"), self.path)

    def _stream(self, connection, request, n):
        if n == 0 and self.first is not None:
            return connection.sendall(self.first)
        connection.sendall(STREAM)
        ended = threading.Event()
        self.connections.put((connection, request, ended))
        ended.wait(client.DEADLINE)

    def _callback(self, connection, request, n):
        head, _, body = request.partition("\r\n\r\n")
        self.numbers.append(head.split(" ")[1])
        self.callbacks.put(json.loads(body.encode("latin-1")))
        connection.sendall(OK)   # last: the next one comes after it, on another thread

    def connection(self):
        return Connection(*self.connections.get(timeout=client.DEADLINE))

    def callback(self, kind):
        got = self.callbacks.get(timeout=client.DEADLINE)
        equal(got["kind"], kind, got)
        return got[kind] if kind in got else got

    def event(self):
        return self.callback("event")

    def end(self):
        equal(ask("DELETE", self.path)[0], 204, "DELETE")
        equal(ask("DELETE", self.path)[0], 404, "DELETE again")
        equal(self.numbers, [f"/endpoints/2/{n}" for n in range(1, len(self.numbers) + 1)], "callbacks are numbered")


class Connection:
    def __init__(self, connection, request, ended):
        self.connection, self.request, self.ended = connection, request, ended

    def send(self, data):
        self.connection.sendall(data if isinstance(data, bytes) else data.encode())

    def cut(self):
        self.ended.set()


def message(data, kind="message", ident=""):
    return {"type": kind, "data": data, "id": ident}


def test_status():
    status, headers, body = ask("GET", "/")
    equal(status, 200, "status")
    wanted = {"comments", "headers", "last-event-id", "post", "report", "read-timeout", "restart", "bom", "204"}
    equal(wanted - set(json.loads(body)["capabilities"]), set(), "missing capabilities")


def test_wrong_requests():
    url = {"streamUrl": "http://127.0.0.1:1/", "callbackUrl": "http://127.0.0.1:1/"}
    for body in {}, [], "x", {"streamUrl": "http://127.0.0.1:1/"}, {**url, "streamUrl": "ftp://x/"}, \
            {**url, "callbackUrl": "x"}, {**url, "headers": {"a b": "x"}}, {**url, "initialDelayMs": "x"}, \
            {**url, "method": "CONNECT"}, {**url, "headers": []}:
        equal(ask("POST", "/", body)[0], 400, body)
    equal(ask("POST", "/streams/99", {"command": "restart"})[0], 404, "no such stream")
    equal(ask("DELETE", "/streams/99")[0], 404, "no such stream")


def test_events_and_defaults():
    s = Stream(tag=None, readTimeoutMs=None, lastEventId=None, headers=None, method=None, body=None)
    c = s.connection()
    check(c.request.startswith("GET /endpoints/1 HTTP/1.1\r\n"), c.request)
    equal([header(c.request, n) for n in ("Accept", "Cache-Control", "Last-Event-ID")],
          ["text/event-stream", "no-cache", None], "headers")
    c.send("data: Hello\n\nevent: greeting\nid: abc\ndata: a\r\ndata: \"\\\u20ac\x01\n\ndata\n\n")
    equal([s.event() for _ in range(3)],
          [message("Hello"), message('a\n"\\\u20ac\x01', "greeting", "abc"), message("", ident="abc")], "events")
    s.end()


def test_large_events():
    s = Stream()
    c = s.connection()
    for size in 1, 4096, 65536, 1 << 20, 10_000_000:
        c.send("data: " + "x" * size + "\n\n")
        equal(len(s.event()["data"]), size, "size")
    s.end()


def test_comments():
    s = Stream()
    s.connection().send(":Hello\n: a\n:\ndata: x\n\n")
    comments = [s.callback("comment") for _ in range(3)]
    equal(comments[0], "Hello", "comment")
    equal(s.event(), message("x"), "event")
    s.end()


def test_headers():
    s = Stream(headers={"header-name-1": "value-1", "header-name-2": "value-2"})
    request = s.connection().request
    equal([header(request, "header-name-1"), header(request, "header-name-2")], ["value-1", "value-2"], "headers")
    s.end()


def test_last_event_id():
    s = Stream(lastEventId="abc")
    c = s.connection()
    equal(header(c.request, "Last-Event-ID"), "abc", "at first")
    c.send("id: def\ndata: Hello\n\ndata: World\n\nid: ghi\ndata: cut")
    equal([s.event(), s.event()], [message("Hello", ident="def"), message("World", ident="def")], "events")
    c.cut()
    s.callback("error")
    c = s.connection()
    equal(header(c.request, "Last-Event-ID"), "def", "then")
    c.send("id\ndata: x\n\n")
    equal(s.event(), message("x"), "event")
    c.cut()
    equal(header(s.connection().request, "Last-Event-ID"), None, "after an empty id")
    s.end()


def test_post_and_report():
    body = '{"hello": "world \u20ac"}'
    for method in "POST", "REPORT":
        s = Stream(method=method, body=body, headers={"content-type": "application/json; charset=utf-8"})
        for _ in range(2):
            c = s.connection()
            check(c.request.startswith(method + " "), c.request)
            equal(header(c.request, "Content-Type"), "application/json; charset=utf-8", "type")
            equal(c.request.partition("\r\n\r\n")[2], body.encode().decode("latin-1"), "body")
            c.cut()
        s.end()


def test_read_timeout():
    s = Stream(readTimeoutMs=300)
    s.connection().send("data: Hello\n\n")
    equal(s.event(), message("Hello"), "event")
    s.callback("error")
    s.connection()
    s.end()


def test_restart():
    s = Stream()
    s.connection().send("data: Hello\n\n")
    equal(s.event(), message("Hello"), "event")
    equal(ask("POST", s.path, {"command": "restart"})[0] // 100, 2, "restart")
    s.connection().send("data: Thanks\n\n")
    equal(s.event(), message("Thanks"), "an event, not an error")
    equal(ask("POST", s.path, {"command": "listen", "listen": {"type": "x"}})[0] // 100, 2, "listen")
    equal(ask("POST", s.path, {"command": "dance"})[0], 400, "unknown")
    s.end()


def test_bom():
    s = Stream()
    c = s.connection()
    for part in b"\xef", b"\xbb", b"\xbfdata: \xef\xbb\xbfHello\n\n":
        c.send(part)
    equal(s.event(), message("\ufeffHello"), "event")
    s.end()


def test_204():
    s = Stream(first=NO_CONTENT)
    check("204" in s.callback("error"), "told as an error")
    equal(len(s.server.requests), 1, "requests")
    s.end()


def test_redirects():
    target = Stream()
    c = target.connection()
    for status in 301, 307:
        s = Stream(first=f"HTTP/1.1 {status} Go\r\nLocation: {target.server.url()}\r\nContent-Length: 0\r\n\r\n".encode())
        c = target.connection()
        c.send("data: hello\n\n")
        equal(s.event(), message("hello"), "event")
        s.end()
        for location in "", "Location:\r\n":
            s = Stream(first=f"HTTP/1.1 {status} Go\r\n{location}Content-Length: 0\r\n\r\n".encode())
            check(s.callback("error"), "a text")
            s.end()
    target.end()


service = client.spawn(client.program("conformance_service"), "--port", "0", stdout=subprocess.PIPE,
                       stderr=subprocess.DEVNULL)
PORT = int(service.stdout.readline().decode().rsplit(":", 1)[1])
failed = 0
for name, test in list(globals().items()):
    if name.startswith("test_") and name.find(sys.argv[1] if len(sys.argv) > 1 else "") >= 0:
        try:
            test()
            print(f"ok {name}", flush=True)
        except (AssertionError, queue.Empty, OSError) as e:
            failed += 1
            print(f"FAILED {name}: {e!r}", flush=True)
equal(ask("DELETE", "/")[0], 204, "DELETE /")
equal(service.wait(client.DEADLINE), 0, "the service's exit code")
sys.exit(1 if failed else 0)
