#!/usr/bin/env python3
"""tail as its users see it: output, exit codes, delays, resuming.

needs: python3
"""
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile

from _client import NO_CONTENT, STREAM, Server, Tail, check, equal, header


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
                       (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "500"),
                       (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>", "text/event-stream"),
                       (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "redirects")]:
        code, out, err = run(answer(head), "--json")
        equal((code, out, err.count("\n")), (1, "", 1), head)
        check(text in err, err)


def test_wrong_use():
    for arguments in [], ["--json"], ["ftp://localhost/"], ["http://"], ["http://a", "http://b"], \
            ["http://a", "--retry", "x"], ["http://a", "--retry"], ["http://a", "--bogus"], \
            ["http://a", "--header", "no colon"], ["http://a", "--header", "Host: b"]:
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
        for url, flags in [(s.url(scheme="https"), ["--ca", f"{d}/c"]),          # another name
                           (s.url(scheme="https", host="localhost"), [])]:      # a stranger's certificate
            tail = Tail(url, "--retry", "100000", *flags)
            tail.until("a failure", lambda tail=tail: tail.err)
            check("secure" in tail.err[0] and not tail.out, tail.err)
            tail.child.terminate()
            tail.end()


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
