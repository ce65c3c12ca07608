#!/usr/bin/env python3
"""The notifications program with the clients of its contract that are no browsers: curl, and Python's requests.

Also what only the real program shows: its log, its signals, signed tokens. Rows: N-01 N-04 N-09 N-12 N-15 N-23 N-24 X-21
needs: python3 curl
usage: notifications_clients.py   with $PROGRAMS/notifications
"""
import base64
import hashlib
import hmac
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import _client as client

DEBIANS = "/usr/bin/python3"
try:
    import requests
except ImportError:
    # Debian's package belongs to Debian's Python, which need not be the first in PATH.
    if sys.executable != DEBIANS and os.path.exists(DEBIANS):
        os.execv(DEBIANS, [DEBIANS, *sys.argv])
    client.skip("requests is missing: apt install python3-requests")

DEMO = "dGVzdDEyMzp0ZXN0dXNlcjp0ZXN0QGV4YW1wbGUuY29tOnVzZXIsYWRtaW4="
SECRET = "a secret of at least thirty-two bytes"


class Program:
    def __init__(self, *flags):
        self.child = client.spawn(client.program("notifications"), "--port", "0", *flags, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.child.stdout.readline()
        match = re.fullmatch(r"listening on (http://[^/]+)/\n", line)
        client.check(match, f"the first line on stdout is {line!r}")
        self.url, self.log = match[1], []
        self.reader = threading.Thread(target=lambda: self.log.extend(self.child.stderr), daemon=True)
        self.reader.start()

    def end(self):
        start = time.monotonic()
        self.child.send_signal(signal.SIGTERM)
        client.equal(self.child.wait(client.DEADLINE), 0, "exit code")
        client.check(time.monotonic() - start < 5, "it took longer than 5 s to end")
        self.reader.join(client.DEADLINE)
        return "".join(self.log)


def events(lines):
    """What a plain reader of lines makes of a stream: (event, data)."""
    name, data = "message", []
    for line in lines:
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            data.append(line[6:])
        elif not line and data:
            yield name, json.loads("\n".join(data))
            name, data = "message", []


class Curl:
    """A stream read by curl -N."""

    def __init__(self, *arguments):
        self.child = client.spawn("curl", "-sN", "--max-time", str(client.DEADLINE), *arguments, stdout=subprocess.PIPE, text=True)
        self.events = events(line.rstrip("\n") for line in self.child.stdout)

    def next(self, *wanted):
        return next(e for e in self.events if e[0] in wanted)

    def close(self):
        self.child.kill()
        self.child.wait()


def curl(*arguments):
    out = subprocess.run(["curl", "-s", "-w", "\n%{http_code}", *arguments], check=True, capture_output=True, text=True).stdout
    body, _, status = out.rpartition("\n")
    return int(status), body


def until_open(url, n):
    """Waits until n streams are open; they are counted before their first event."""
    end = time.monotonic() + client.DEADLINE
    while requests.get(url + "/system/status", timeout=client.DEADLINE).json()["connections"] != n:
        client.check(time.monotonic() < end, f"there are never {n} streams")
        time.sleep(0.01)


def with_curl():
    """The commands of the contract, letter for letter but for host and token."""
    program = Program()
    url, bearer, json_type = program.url, "Authorization: Bearer " + DEMO, "Content-Type: application/json"
    streams = {path: Curl(f"{url}/{path}/stream?token={DEMO}") for path in ("notifications", "realtime", "chat")}
    status = Curl(f"{url}/system/status/stream")
    until_open(url, 4)

    code, body = curl("-X", "POST", url + "/notifications/send", "-H", bearer, "-H", json_type, "-d", """{
    "title": "Test Notification",
    "message": "Hello World!",
    "type": "info"
  }""")
    answer = json.loads(body)
    client.equal((code, answer["success"], sorted(answer)), (200, True, ["id", "success"]), "the answer")
    name, data = streams["notifications"].next("notification")
    client.equal(data["id"], answer["id"], "id")
    client.equal(sorted(data), ["id", "message", "timestamp", "title", "type", "userId"], "fields of a notification")
    client.equal((data["title"], data["message"], data["type"]), ("Test Notification", "Hello World!", "info"), "notification")

    code, body = curl("-X", "POST", url + "/realtime/update", "-H", bearer, "-H", json_type, "-d", """{
    "entityType": "user",
    "entityId": "user123",
    "action": "updated",
    "data": {"status": "online"}
  }""")
    client.equal(code, 200, "realtime/update")
    name, data = streams["realtime"].next("update")
    del data["timestamp"]
    client.equal(data, {"entityType": "user", "entityId": "user123", "action": "updated", "data": {"status": "online"}}, "update")

    code, body = curl("-X", "POST", url + "/chat/send", "-H", bearer, "-H", json_type, "-d", """{
    "roomId": "general",
    "message": "Hello everyone!"
  }""")
    client.equal(code, 200, "chat/send")
    name, data = streams["chat"].next("message")
    client.equal(sorted(data), ["id", "message", "roomId", "timestamp", "userId", "username"], "fields of a message")
    client.equal((data["roomId"], data["userId"], data["username"], data["message"]),
                 ("general", "test123", "testuser", "Hello everyone!"), "message")

    code, body = curl(url + "/system/status")
    name, data = status.next("status")
    client.equal(sorted(data), ["connections", "cpu", "memory", "status", "timestamp", "uptime"], "fields of the status")
    for state in (json.loads(body), data):
        client.equal(state["status"], "healthy", "status")
        client.check(re.fullmatch(r"[1-9]\d*MB", state["memory"]), state["memory"])
        client.check(re.fullmatch(r"\d+%", state["cpu"]), state["cpu"])

    for arguments, wanted in (((f"{url}/notifications/stream",), 401), ((f"{url}/chat/stream?token=x",), 401),
                              (("-X", "POST", f"{url}/chat/send", "-d", "{}"), 401),
                              (("-X", "DELETE", f"{url}/chat/send", "-H", bearer), 405),
                              (("-H", bearer, f"{url}/chat/send", "-d", "{"), 400)):
        client.equal(curl(*arguments)[0], wanted, " ".join(arguments))
    for stream in (*streams.values(), status):
        stream.close()
    log = program.end()
    client.check(DEMO[:16] not in log, "the token stands in the log")
    client.check("/chat/stream?token=*** 200 stream" in log, log)
    client.check("anybody can make one" in log, "it does not say what demo tokens are worth")


def with_requests():
    """A stream read line by line; it ends when the program does."""
    program = Program()
    headers = {"Authorization": "Bearer " + DEMO}
    with requests.get(program.url + "/chat/stream", params={"token": DEMO, "room": "general"}, stream=True,
                      timeout=client.DEADLINE) as stream:
        client.equal(stream.status_code, 200, "status")
        client.equal(stream.headers["Content-Type"], "text/event-stream", "type")
        lines = (line.decode() for line in stream.iter_lines(chunk_size=1))
        for n in range(3):
            answer = requests.post(program.url + "/chat/send", json={"roomId": "general", "message": f"m{n} \u00e4\u20ac"},
                                   headers=headers, timeout=client.DEADLINE)
            client.equal(answer.status_code, 200, "chat/send")
        read = events(lines)
        for n in range(3):
            client.equal(next(read)[1]["message"], f"m{n} \u00e4\u20ac", "message")
        log = program.end()
        client.equal(list(read), [], "what comes after the end")
    client.check(DEMO[:16] not in log, "the token stands in the log")


def signed(**claims):
    def part(raw):
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    text = part(b'{"alg":"HS256","typ":"JWT"}') + "." + part(json.dumps(claims).encode())
    return text + "." + part(hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).digest())


def with_signed_tokens():
    program = Program("--token-secret", SECRET)
    url, now = program.url, time.time()

    def get(path, token):
        with requests.get(url + path, headers={"Authorization": "Bearer " + token}, stream=True, timeout=client.DEADLINE) as r:
            return r.status_code
    user, admin = signed(sub="ada", exp=now + 60), signed(sub="root", exp=now + 60, roles=["admin"])
    client.equal(get("/chat/stream", user), 200, "a signed token")
    client.equal(get("/system/connections", user), 403, "a user asks for what is an admin's")
    client.equal(get("/system/connections", admin), 200, "an admin")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    for bad in (DEMO, user[:-3] + "AAA", signed(sub="ada"), signed(sub="ada", exp=now - 1), signed(sub="ada", exp=now + 60, nbf=now + 30),
                unsigned + "." + user.split(".")[1] + ".", ".".join((*user.split(".")[:2], admin.split(".")[2]))):
        client.equal(get("/chat/stream", bad), 401, bad)

    # A stream ends when its token does.
    start = time.monotonic()
    with requests.get(f"{url}/notifications/stream?token={signed(sub='ada', exp=now + 2)}", stream=True,
                      timeout=client.DEADLINE) as stream:
        client.equal(stream.status_code, 200, "a token for two seconds")
        try:
            client.check(re.fullmatch(rb"id: \d+\n\n", stream.content), f"what was sent: {stream.content!r}")  # where it begins
        except requests.exceptions.RequestException as e:
            raise AssertionError(f"no clean end: {e}")
    client.check(time.monotonic() - start < 4, "the stream outlived its token")
    log = program.end()
    client.check("its token has ended" in log, log)
    for token in (user, admin):
        client.check(token.split(".")[2] not in log, "a token stands in the log")


for test in (with_curl, with_requests, with_signed_tokens):
    test()
    print(f"ok      {test.__name__}")
