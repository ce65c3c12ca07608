#!/usr/bin/env python3
"""tail as its users see it: output, exit codes, delays, resuming.

needs: python3
"""
import base64
import contextlib
import json
import os
import random
import select
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

from _client import DEADLINE, NO_CONTENT, STREAM, Listener, Server, Tail, check, equal, hang_up, header, program, spawn


def once(body, then=NO_CONTENT):
    """A stream once, then what ends tail."""
    return Server(lambda c, r, n: c.sendall(STREAM + body if n == 0 else then))


def run(*arguments):
    tail = Tail(*arguments)
    code = tail.end()
    return code, "".join(tail.out), "".join(tail.err)


def test_json_is_one_object_per_event_and_nothing_else():
    s = once(b"\xef\xbb\xbf: comment\nretry: 1\n\nid: 7\nevent: a\ndata: one\ndata: two\n\n"
             b"data: \xff \"quoted\" \\ \x01\t\xe2\x82\xac\n\nid\ndata\n\nid: 9\n\nevent: lost\n\n"
             b"event: gap\nid: 11\ndata: {\"requested\":7,\"first\":12,\"lost\":null}\n\ndata: cut")
    code, out, err = run(s.url(), "--json")
    equal(code, 0, "exit code")
    equal([json.loads(line) for line in out.splitlines()], [
        {"type": "a", "data": "one\ntwo", "lastEventId": "7"},
        {"type": "message", "data": "\ufffd \"quoted\" \\ \x01\t\u20ac", "lastEventId": "7"},
        {"type": "message", "data": "", "lastEventId": ""},
        {"type": "gap", "data": '{"requested":7,"first":12,"lost":null}', "lastEventId": "11"},
    ], "events")
    check("an unknown number of events lost between 7 and 12" in err, err)
    equal(header(s.requests[1][1], "Last-Event-ID"), "11", "the id that it resumes at")


def test_lines_are_for_people():
    s = once(b"retry: 1\n\nid: 1\nevent: a\ndata: one\ndata: two \x1b[2J\n\ndata: x\n\n")
    code, out, err = run(s.url())
    equal(code, 0, "exit code")
    lines = out.splitlines()
    equal(len(lines), 3, out)
    check(lines[0][8:] == "  1  a  one" and lines[1].strip() == "two ?[2J", out)
    check(lines[1].index("two") == lines[0].index("one"), "the second line stands under the first")
    check("\x1b" not in out + err, "no escape sequences where no terminal is")
    check("204" in err, err)


def test_each_event_is_flushed():
    s = Server(lambda c, r, n: (c.sendall(STREAM + b"data: x\n\n"), c.recv(1)))
    tail = Tail(s.url(), "--json")
    tail.until("an event", lambda: tail.out)
    tail.child.send_signal(signal.SIGINT)
    equal(tail.end(), 0, "exit code after SIGINT")
    equal(len(tail.out), 1, "lines")
    equal(tail.err, [], "stderr")


def test_signals_end_it_also_while_it_waits():
    for number in signal.SIGINT, signal.SIGTERM:
        tail = Tail("http://127.0.0.1:1/", "--retry", "100000")
        tail.until("a failed attempt", lambda: tail.err)
        tail.child.send_signal(number)
        equal(tail.end(), 0, "exit code")


def test_what_ends_it():
    def answer(head):
        return Server(lambda c, r, n: c.sendall(head)).url()

    code, out, err = run(answer(NO_CONTENT), "--json")
    equal((code, out), (0, ""), "204")
    for head, text in [(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "404"),
                       (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", "403"),
                       (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>", "text/event-stream"),
                       (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "redirects")]:
        code, out, err = run(answer(head), "--json")
        equal((code, out, err.count("\n")), (1, "", 1), head)
        check(text in err, err)


def test_refusals_that_are_tried_again():
    busy = b"HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"
    s = Server(lambda c, r, n: c.sendall(busy if n < 2 else STREAM + b"data: x\n\n" if n == 2 else NO_CONTENT))
    code, out, err = run(s.url(), "--json", "--retry", "50")
    equal((code, out.count("\n"), len(s.requests)), (0, 1, 4), "503 is tried again")
    check("503; again in" in err, err)
    for statuses in "", "500, 502", "4xx":
        s = Server(lambda c, r, n: c.sendall(busy))
        code, _, err = run(s.url(), "--retry-status", statuses)
        equal((code, len(s.requests)), (1, 1), f"503 with {statuses!r}")
    s = Server(lambda c, r, n: c.sendall(b"HTTP/1.1 404 x\r\n\r\n" if n == 0 else NO_CONTENT))
    equal(run(s.url(), "--retry-status", "404", "--retry", "50")[0], 0, "404 by option")


def test_wrong_use():
    for arguments in [], ["--json"], ["ftp://localhost/"], ["http://"], ["http://a", "http://b"], \
            ["http://a", "--retry", "x"], ["http://a", "--retry"], ["http://a", "--bogus"], \
            ["http://a", "--header", "no colon"], ["http://a", "--header", "Host: b"], \
            ["http://a", "--proxy", "socks5://b"], ["http://a", "--proxy", "http://127.1"], \
            ["http://a", "--retry-status", "5x"]:
        code, out, err = run(*arguments)
        equal((code, out), (2, ""), arguments)
        check(err.startswith("tail: ") and err.count("\n") == 1, err)
    code, out, err = run("--help")
    check(code == 0 and "--last-id" in out and not err, out)
    code, out, err = run("--version")
    check(code == 0 and out.startswith("tail ") and not err, out)


def test_what_it_sends():
    s = once(b"retry: 1\n\ndata: x\n\n")
    equal(run(s.url("/e?a=b"), "--last-id", "4\u20ac", "--header", "X-One: 1", "--header", "X-Two:2", "--token", "t",
              "--resume-query", "from")[0], 0, "exit code")
    head = s.requests[0][1]
    check(head.startswith("GET /e?a=b&from=4%E2%82%AC HTTP/1.1\r\n"), head)
    equal([header(head, n) for n in ("Last-Event-ID", "X-One", "X-Two", "Authorization", "Accept")],
          ["4\u20ac".encode().decode("latin-1"), "1", "2", "Bearer t", "text/event-stream"], "headers")
    bodies = []
    s = Server(lambda c, r, n: (bodies.append(r), c.sendall(NO_CONTENT)))
    equal(run(s.url(), "--data", "abc")[0], 0, "exit code")
    check(bodies[0].startswith("POST / ") and bodies[0].endswith("\r\n\r\nabc"), bodies[0])


def test_filter_and_count():
    s = once(b"event: a\ndata: 1\n\ndata: 2\n\nevent: b\ndata: 3\n\nevent: a\ndata: 4\n\n")
    out = run(s.url(), "--json", "--filter", "a", "--filter=message", "--count", "3")[1]
    equal([json.loads(line)["data"] for line in out.splitlines()], ["1", "2", "4"], "events")


def delays(s):
    return [b[0] - a[0] for a, b in zip(s.requests, s.requests[1:])]


def test_delays_after_a_cut_are_the_servers():
    s = Server(lambda c, r, n: c.sendall(STREAM + b"retry: 300\n\ndata: x\n\n" if n < 4 else NO_CONTENT))
    equal(run(s.url())[0], 0, "exit code")
    equal(len(s.requests), 5, "requests")
    d = sorted(delays(s))
    check(d[0] > 0.29 and d[1] < 0.6, f"constant, not growing: {d}")


def test_delays_by_option():
    s = Server(lambda c, r, n: c.sendall(STREAM + b"data: x\n\n" if n < 3 else NO_CONTENT))
    equal(run(s.url(), "--retry", "250")[0], 0, "exit code")
    d = sorted(delays(s))
    check(d[0] > 0.24 and d[1] < 0.5, f"{d}")


def test_delays_grow_while_attempts_fail():
    s = Server(lambda c, r, n: n == 7 and c.sendall(NO_CONTENT))
    equal(run(s.url(), "--retry", "100")[0], 0, "exit code")
    d = delays(s)
    check(all(x > 0.19 for x in d), f"never within the least interval: {d}")
    check(sum(d) > 0.8, f"they grow: {d}")


def test_a_default_of_three_seconds():
    s = once(b"data: x\n\n")
    equal(run(s.url())[0], 0, "exit code")
    check(2.9 < delays(s)[0] < 5, f"three seconds, and at most half of it more: {delays(s)}")


def test_retry_zero_is_no_hot_loop():
    s = Server(lambda c, r, n: c.sendall(STREAM + b"retry: 0\n\n" if n < 5 else NO_CONTENT))
    equal(run(s.url())[0], 0, "exit code")
    check(sum(delays(s)) > 0.4, f"{delays(s)}")


def test_a_closed_reader_ends_it():
    s = Server(lambda c, r, n: [c.sendall(STREAM)] and [c.sendall(b"data: x\n\n") for _ in range(100000)])
    tail = subprocess.run(["sh", "-c", '"$0" "$1" --json | head -n 2', os.path.join(os.environ["PROGRAMS"], "tail"),
                           s.url()], capture_output=True, timeout=30, check=False)
    equal(tail.stdout.count(b"\n"), 2, "lines")


def test_tls():
    if "--ca" not in run("--help")[1]:
        print("  (built without TLS: left out)")
        code, _, err = run("https://localhost/")
        check(code == 2 and "TLS" in err, err)
        return
    with tempfile.TemporaryDirectory() as d:
        made = subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{d}/k", "-out", f"{d}/c", "-days",
             "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], capture_output=True, check=False)
        check(made.returncode == 0, made.stderr)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{d}/c", f"{d}/k")
        s = Server(lambda c, r, n: c.sendall(STREAM + b"data: secret\n\n"),
                   lambda c: context.wrap_socket(c, server_side=True))
        out = run(s.url(scheme="https", host="localhost"), "--ca", f"{d}/c", "--count", "1", "--json")[1]
        check('"secret"' in out, out)
        for url, flags, why in [(s.url(scheme="https"), ["--ca", f"{d}/c"], "for another host"),
                                (s.url(scheme="https", host="localhost"), [], "self-signed")]:
            tail = Tail(url, "--retry", "100000", *flags)
            tail.until("a failure", lambda tail=tail: tail.err)
            check("secure" in tail.err[0] and why in tail.err[0] and not tail.out, tail.err)
            tail.child.terminate()
            tail.end()
        proxy = Proxy("u:p w")
        url = s.url(scheme="https", host="localhost")
        out = run(url, "--ca", f"{d}/c", "--count", "1", "--json", "--proxy", proxy.url("u:p%20w@"))[1]
        check('"secret"' in out, out)
        equal([line for line, _ in proxy.asked], [f"CONNECT localhost:{s.port} HTTP/1.1"], "what the proxy saw")


# --- proxies ----------------------------------------------------------------------------------------------------------


class Proxy(Listener):
    """Passes connections on: to where CONNECT says, and requests that name a whole URL. `asked` holds (first line, head)."""

    def __init__(self, user=None):
        self.asked = []
        self.authorization = user and "Basic " + base64.b64encode(user.encode()).decode()
        super().__init__()

    def url(self, user=""):
        return f"http://{user}127.0.0.1:{self.port}"

    def _serve(self, client):
        data = b""
        while b"\r\n\r\n" not in data:
            more = client.recv(4096)
            if not more:
                return client.close()
            data += more
        head = data.decode("latin-1")
        first = head.split("\r\n")[0]
        self.asked.append((first, head))
        try:
            if header(head, "Proxy-Authorization") != self.authorization:
                client.sendall(b"HTTP/1.1 407 Who?\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
                return hang_up(client, False)
            method, target, version = first.split(" ")
            where = target if method == "CONNECT" else urllib.parse.urlsplit(target).netloc
            server = socket.create_connection(where.rsplit(":", 1), DEADLINE)
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Here you are\r\n\r\n")
            else:
                lines = [f"{method} {target[target.index(where) + len(where):]} {version}"]
                lines += [line for line in head.split("\r\n")[1:] if not line.lower().startswith("proxy-")]
                server.sendall("\r\n".join(lines).encode("latin-1"))
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(4096)
                    if not data:
                        raise ConnectionError
                    (client if ready is server else server).sendall(data)
        except OSError:
            pass
        hang_up(client, False)
        hang_up(server, False)


def test_http_through_a_proxy():
    s = once(b"retry: 1\n\ndata: x\n\n")
    proxy = Proxy()
    equal(run(s.url("/e?a=b"), "--proxy", proxy.url())[0], 0, "exit code")
    equal([line for line, _ in proxy.asked], [f"GET {s.url('/e?a=b')} HTTP/1.1"] * 2, "what the proxy saw")
    equal([head.split("\r\n")[0] for _, head in s.requests], ["GET /e?a=b HTTP/1.1"] * 2, "what the server saw")
    # One that asks who it is, with the wrong answer and without.
    proxy = Proxy("u:p")
    for user in "", "u:q@":
        code, _, err = run(s.url(), "--proxy", proxy.url(user))
        check(code == 1 and "407" in err, err)
    # One that is not there.
    tail = Tail(s.url(), "--proxy", "http://127.0.0.1:1", "--retry", "100000")
    tail.until("a failure", lambda: tail.err)
    check("on the way to the proxy" in tail.err[0] and "refused" in tail.err[0], tail.err)
    tail.child.terminate()
    equal(tail.end(), 0, "exit code")


def test_proxies_of_the_environment():
    proxy = Proxy()
    for variables, flags, seen in [({"http_proxy": proxy.url()}, [], 1),
                                   ({"HTTP_PROXY": f"127.0.0.1:{proxy.port}"}, [], 1),
                                   ({"HTTPS_PROXY": proxy.url()}, [], 0),
                                   ({"HTTP_PROXY": proxy.url(), "NO_PROXY": "x.test,127.0.0.0/8"}, [], 0),
                                   ({"HTTP_PROXY": proxy.url()}, ["--proxy", ""], 0),
                                   ({"HTTP_PROXY": "http://127.0.0.1:1"}, ["--proxy", proxy.url()], 1)]:
        proxy.asked.clear()
        s = Server(lambda c, r, n: c.sendall(NO_CONTENT))
        with environment(variables):
            equal(run(s.url(), *flags)[0], 0, f"exit code with {variables}")
        equal((len(proxy.asked), len(s.requests)), (seen, 1), f"requests with {variables} {flags}")


@contextlib.contextmanager
def environment(variables):
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


# --- goes on where it was -----------------------------------------------------------------------------------------------


class Appended:
    """Runs of tail, one after the other, that append to a file."""

    def __init__(self, directory, url, *flags):
        self.out, self.state = f"{directory}/out", f"{directory}/state"
        self.command = [program("tail"), url, "--json", "--quiet", "--state", self.state, "--retry", "50", *flags]

    def start(self):
        with open(self.out, "ab") as out:
            self.child = spawn(*self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE)

    def size(self):
        return os.path.getsize(self.out)

    def until(self, what, condition):
        end = time.monotonic() + DEADLINE
        while not condition():
            check(time.monotonic() < end and self.child.poll() is None, f"waited in vain: {what}")
            time.sleep(0.002)

    def kill(self, number=signal.SIGKILL):
        self.child.send_signal(number)
        return self.child.wait(DEADLINE)

    def ids(self):
        with open(self.out, "rb") as out:
            return [int(json.loads(line)["lastEventId"]) for line in out]


def served_ids(port, after, until):
    """The ids that the gateway has after one of them, until another."""
    ids = []
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as c:
        c.sendall(f"GET /api/stream?last_id={after} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
        for line in c.makefile("rb"):
            if line.startswith(b"id:"):
                ids.append(int(line[3:]))
                if ids[-1] >= until:
                    return ids
    raise AssertionError(f"the gateway ended after {ids[-1:]}")


def tick(engine):
    """An engine that has something to say every millisecond, until nobody listens."""
    try:
        with open(engine, "w", encoding="ascii") as out:
            for n in range(1_000_000):
                print(json.dumps({"type": "tick", "n": n}), file=out, flush=True)
                time.sleep(0.001)
    except OSError:
        pass


def test_state_each_event_once_whenever_it_is_killed():
    dice = random.Random(7)
    with tempfile.TemporaryDirectory() as d:
        os.mkfifo(f"{d}/engine")
        gateway = spawn(program("gateway"), "--port", "0", "--keep", "1000000", "--engine", f"cat {d}/engine",
                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        port = int(gateway.stdout.readline().decode().rstrip("/\n").rpartition(":")[2])
        threading.Thread(target=tick, args=(f"{d}/engine",), daemon=True).start()
        tail = Appended(d, f"http://127.0.0.1:{port}/api/stream")
        torn = 0
        for n in range(40):
            tail.start()
            tail.until("a position", lambda: os.path.exists(tail.state))
            if n % 4 != 0:  # else at any moment, also before it has anything
                before = tail.size()
                tail.until("an event", lambda before=before: tail.size() != before)
            time.sleep(dice.random() * 0.03)
            tail.kill()
            with open(tail.state, encoding="latin-1") as state:
                torn += tail.size() > int(state.read().split()[-1])
        tail.start()
        before = tail.size()
        tail.until("an event", lambda: tail.size() > before)
        equal(tail.kill(signal.SIGTERM), 0, "exit code")
        got = tail.ids()
        equal(got, served_ids(port, got[0] - 1, got[-1]), "ids")
        print(f"  ({len(got)} events over 40 kills; {torn} times the output was ahead of the state)")
        gateway.kill()
        gateway.wait()


def numbered(c, request, first_of):
    """Ten events after the one that was asked for."""
    last = int(header(request, "Last-Event-ID") or first_of)
    c.sendall(STREAM + b"".join(b"id: %d\ndata: x\n\n" % (last + i) for i in range(1, 11)))
    c.recv(1)


def test_state_takes_back_what_was_not_counted():
    s = Server(lambda c, r, n: numbered(c, r, 0))
    with tempfile.TemporaryDirectory() as d:
        tail = Appended(d, s.url())
        for n in range(1, 4):
            tail.start()
            tail.until("ten events", lambda n=n: os.path.exists(tail.state) and f"id {10 * n}\n" in open(tail.state).read())
            check(tail.kill() != 0, "killed")
            with open(tail.out, "ab") as out:  # as if it had been killed in the midst of a line
                out.write(b'{"type":"message","data":"x","lastEventId":"%d"}\n{"type":"mess' % (10 * n + 1))
        tail.start()
        tail.until("ten events", lambda: "id 40\n" in open(tail.state).read())
        equal(tail.kill(signal.SIGINT), 0, "exit code")
        equal(tail.ids(), list(range(1, 41)), "ids")
        equal([header(head, "Last-Event-ID") for _, head in s.requests], [None, "10", "20", "30"], "resumed at")
        # Another file for stdout: nothing is taken back, and it goes on.
        os.rename(tail.out, f"{d}/old")
        size = os.path.getsize(f"{d}/old")
        tail.start()
        tail.until("ten events", lambda: "id 50\n" in open(tail.state).read())
        tail.kill(signal.SIGTERM)
        equal((tail.ids(), os.path.getsize(f"{d}/old")), (list(range(41, 51)), size), "the new file, the old one")


def test_state_keeps_the_place_before_the_first_event():
    """A block of an id alone says where the server begins."""
    s = Server(lambda c, r, n: (c.sendall(STREAM + b"id: 7\n\n"), c.recv(1)))
    with tempfile.TemporaryDirectory() as d:
        tail = Appended(d, s.url())
        tail.start()
        tail.until("a position", lambda: os.path.exists(tail.state))
        tail.kill()
        tail.start()
        tail.until("a second request", lambda: len(s.requests) == 2)
        tail.kill()
    equal(header(s.requests[1][1], "Last-Event-ID"), "7", "resumed at")


def test_state_in_a_pipe():
    s = Server(lambda c, r, n: numbered(c, r, 100))
    with tempfile.TemporaryDirectory() as d:
        flags = ["--json", "--state", f"{d}/state", "--last-id", "100"]
        for first in 101, 104:
            code, out, _ = run(s.url(), *flags, "--count", "3")
            equal(code, 0, "exit code")
            equal([json.loads(line)["lastEventId"] for line in out.splitlines()],
                  [str(first + i) for i in range(3)], "ids")


def test_state_that_cannot_be():
    s = Server(lambda c, r, n: numbered(c, r, 0))
    with tempfile.TemporaryDirectory() as d:
        code, out, err = run(s.url(), "--state", f"{d}/no/state")
        check(code == 1 and f"{d}/no/state" in err, err)
        for text in b"", b"tail 2\nid 1\n", b"tail 1\n", b"tail 1\nid 1", b"tail 1\nid 1\nstdout 1 2\n", \
                b"tail 1\nid 1\nstdout 1 2 -3\n", b"tail 1\nid 1\nstdout 1 2 3 4\n", b"tail 1\nid 1\n\n", b"\0" * 5000:
            with open(f"{d}/state", "wb") as f:
                f.write(text)
            code, out, err = run(s.url(), "--state", f"{d}/state")
            check((code, out) == (1, "") and "state" in err and err.count("\n") == 1, (text, code, out, err))
            with open(f"{d}/state", "rb") as f:
                equal(f.read(), text, "a file that is not ours stays")


def main():
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    failed = 0
    for name, test in list(globals().items()):
        if not name.startswith("test_") or wanted not in name:
            continue
        try:
            test()
            print(f"ok {name}", flush=True)
        except (AssertionError, subprocess.TimeoutExpired, socket.error) as e:
            failed += 1
            print(f"FAILED {name}: {e}", flush=True)
    sys.exit(1 if failed else 0)


main()
