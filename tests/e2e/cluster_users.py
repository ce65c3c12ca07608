#!/usr/bin/env python3
"""Two nodes of a program over one nats-server: what is posted on one comes to the other's readers, once; how many streams there are, caps
of users, who is present and who was revoked hold over both; a server that does not answer for a while delays, and loses nothing.

needs: python3 nats-server
"""
import base64
import hmac
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse

from _client import CHILDREN, check, equal, program, skip
from _cluster import OWN, Server, free_port, health, wait_for_health


class Stream:
    """An open stream; `status` of its head, and blocks as they come."""

    def __init__(self, port, path, last=None):
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        resume = f"Last-Event-ID: {last}\r\n" if last is not None else ""
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n{resume}\r\n".encode())
        self.rest = b""
        self.status = int(self.until(b"\r\n\r\n").split()[1])

    def until(self, end):
        """What comes up to `end`; None: the stream ended."""
        while end not in self.rest:
            got = self.socket.recv(65536)
            if not got:
                return None
            self.rest += got
        text, _, self.rest = self.rest.partition(end)
        return text.decode()

    def event(self, name):
        """The next one of that type: its id (None: transient) and its data."""
        while (block := self.until(b"\n\n")) is not None:
            lines = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
            if lines.get("event") == name and "data" in lines:
                return lines.get("id"), json.loads(lines["data"])
        raise AssertionError(f"the stream ended before {name}")

    def ended(self):
        while self.until(b"\n\n") is not None:
            pass

    def close(self):
        self.socket.close()


def ask_once(port, method, path, body=None, token=None):
    with socket.create_connection(("127.0.0.1", port), 60) as s:
        data = b"" if body is None else json.dumps(body).encode()
        auth = f"Authorization: Bearer {token}\r\n" if token else ""
        s.sendall(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n{auth}"
                  f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
        got = b""
        while more := s.recv(65536):
            got += more
    head, _, text = got.decode().partition("\r\n\r\n")
    return int(head.split()[1]), text


def ask(*request, **more):
    """Again where a machine so slow that a node took itself for cut off was the reason."""
    deadline = time.monotonic() + 60
    while "cut off" in (answer := ask_once(*request, **more))[1] and time.monotonic() < deadline:
        time.sleep(0.1)
    return answer


def eventually(f, what, patience=60):
    deadline = time.monotonic() + patience
    while not f():
        check(time.monotonic() < deadline, what)
        time.sleep(0.02)


def two(name, urls, *flags):
    """Two nodes of the program, a and b."""
    nodes = [Server(port, program(name), "--port", str(port), "--nats", urls, "--nats-replicas", "1", "--node", node, *flags)
             for port, node in ((free_port(), "a"), (free_port(), "b"))]
    for n in nodes:
        n.wait_until_it_listens()
        wait_for_health(n.port, 200)
    return nodes


def streams(node):
    return json.loads(health(node.port)[1])["cluster_streams"]


def test_gateways_count_together(urls):
    a, b = two("gateway", urls, "--token", "t", "--per-user", "2")
    equal(Stream(a.port, "/api/stream").status, 401, "a stream without the token")
    first, second = Stream(a.port, "/api/stream?token=t"), Stream(b.port, "/api/stream?token=t")
    equal((first.status, second.status), (200, 200), "streams")
    eventually(lambda: streams(a) == 2 and streams(b) == 2, "both nodes count both streams")
    equal(json.loads(ask(b.port, "GET", "/api/config")[1])["cluster_streams"], 2, "/api/config")
    equal(Stream(b.port, "/api/stream?token=t").status, 429, "a third stream of a user that may have two")
    first.close()
    eventually(lambda: streams(b) == 1, "one went")
    third = Stream(b.port, "/api/stream?token=t")
    equal(third.status, 200, "there is room for it now")
    eventually(lambda: streams(a) == 2, "the other node counts it")
    b.kill()
    killed = time.monotonic()
    eventually(lambda: streams(a) == 0, "what a node that died had is forgotten")
    check(time.monotonic() - killed < 60, "in time")
    a.kill()


def demo_token(user, roles="user"):
    return base64.b64encode(f"{user}:{user}:{user}@example.com:{roles}".encode()).decode()


def test_notifications_come_to_the_other_node_once(urls):
    a, b = two("notifications", urls)
    ann, bob = demo_token("ann"), demo_token("bob")

    def post(node, user, message):
        status, text = ask(node.port, "POST", "/chat/send", {"roomId": "general", "message": message}, user)
        equal(status, 200, text)
        return json.loads(text)["id"]

    reader = Stream(b.port, f"/stream?token={urllib.parse.quote(ann)}")
    names = {post(a, bob, "first"): "first"}
    last, data = reader.event("message")
    equal((data["message"], data["username"], names.get(data["id"])), ("first", "bob", "first"), "what was posted on the other node")
    reader.close()
    texts = [f"missed {n}" for n in range(20)]
    for n, text in enumerate(texts):
        names[post((a, b)[n % 2], bob, text)] = text
    equal(len(names), 21, "no two events are called the same")
    status, text = ask(a.port, "POST", "/notifications/send", {"title": "t", "message": "m", "userId": "ann"}, bob)
    equal(status, 200, text)
    back = Stream(a.port, f"/stream?token={urllib.parse.quote(ann)}", last)  # to the other node
    got = [back.event("message") for _ in texts]
    equal(sorted(data["message"] for _, data in got), sorted(texts), "each once")
    check(all(names[data["id"]] == data["message"] for _, data in got), "they are called as the answers said")
    ids = [int(number) for number, _ in got]
    check(ids == sorted(set(ids)) and ids[0] > int(last), f"ids run back: {last}, {ids}")
    other = Stream(b.port, f"/chat/stream?last_id={last}&token={urllib.parse.quote(bob)}")
    equal([other.event("message") for _ in texts], got, "both nodes tell the same")
    post(b, bob, "live")
    equal(back.event("message")[1]["message"], "live", "and it goes on, with nothing twice")
    a.kill()
    b.kill()


def test_a_revoked_user_is_gone_everywhere(urls):
    a, b = two("notifications", urls, "--per-user", "3")
    ann, admin = demo_token("ann"), demo_token("root", "admin")
    path = f"/notifications/stream?token={urllib.parse.quote(ann)}"
    open_ones = [Stream(node.port, path) for node in (a, a, b)]
    bystander = Stream(b.port, f"/chat/stream?token={urllib.parse.quote(admin)}")

    def users(node):
        status, text = ask(node.port, "GET", "/system/connections", token=admin)
        equal(status, 200, text)
        return {u["userId"]: u["streams"] for u in json.loads(text)["cluster"]["users"]}

    eventually(lambda: users(a) == users(b) == {"ann": 3, "root": 1}, "both nodes know who is there")
    equal(Stream(b.port, path).status, 429, "a fourth stream of a user that may have three")
    equal(ask(a.port, "POST", "/system/revoke", {"userId": "ann"}, ann)[0], 403, "who is no admin revokes nobody")
    equal(ask(a.port, "POST", "/system/revoke", {"userId": ""}, admin)[0], 400, "nobody")
    equal(ask(a.port, "POST", "/system/revoke", {"userId": "ann"}, admin)[0], 200, "an admin does")
    began = time.monotonic()
    for s in open_ones:
        s.ended()
    print(f"gone on all nodes after {time.monotonic() - began:.3f} s")
    for node in (a, b):
        equal(Stream(node.port, path).status, 401, "a stream of who was revoked")
        equal(ask(node.port, "POST", "/chat/send", {"roomId": "general", "message": "m"}, ann)[0], 401, "a post")
        equal(ask(node.port, "GET", "/session", token=ann)[0], 401, "a question")
    eventually(lambda: users(a) == users(b) == {"root": 1}, "nobody counts who is gone")
    equal(ask(a.port, "POST", "/chat/send", {"roomId": "general", "message": "still here"}, admin)[0], 200, "another user posts")
    equal(bystander.event("message")[1]["message"], "still here", "and reads")
    b.kill()
    b.start()
    b.wait_until_it_listens()
    equal(Stream(b.port, path).status, 401, "a node that starts later knows it too")
    b.kill()
    a.kill()


def test_a_newer_token_is_good_again(urls):
    key = "k" * 32
    if subprocess.run([program("notifications"), "--port", "0", "--token-secret", key, "--nats", "nats://127.0.0.1:1"],
                      capture_output=True, text=True).stderr.find("OpenSSL") >= 0:
        return print("without OpenSSL there are no signed tokens")
    a, b = two("notifications", urls, "--token-secret", key)

    def signed(user, issued, roles=("user",)):
        def part(data):
            return base64.urlsafe_b64encode(data).rstrip(b"=")

        claims = {"sub": user, "roles": roles, "iat": issued, "exp": int(time.time()) + 3600}
        text = part(b'{"alg":"HS256"}') + b"." + part(json.dumps(claims).encode())
        return (text + b"." + part(hmac.digest(key.encode(), text, "sha256"))).decode()

    now = int(time.time())
    old, newer, admin = signed("dora", now - 10), signed("dora", now + 600), signed("root", now, ("admin",))
    stream = Stream(b.port, f"/chat/stream?token={old}")
    equal(ask(a.port, "POST", "/system/revoke", {"userId": "dora"}, admin)[0], 200, "revoked")
    stream.ended()
    equal([ask(node.port, "GET", "/session", token=old)[0] for node in (a, b)], [401, 401], "the token from before")
    equal([ask(node.port, "GET", "/session", token=newer)[0] for node in (a, b)], [200, 200], "one from behind it")
    a.kill()
    b.kill()


def test_a_chat_goes_on_at_the_other_node(urls):
    a, b = two("chat", urls)

    def say(node, message, room="general"):
        equal(ask(node.port, "POST", "/chat/send", {"user": "ann", "room": room, "message": message})[0], 200, "sent")

    def send(node, text, **more):
        equal(ask(node.port, "POST", "/send", {"data": {"text": text}, **more})[0], 200, "sent")

    reader = Stream(b.port, "/chat?room=general")
    other = Stream(b.port, "/chat?room=other")
    say(a, "for others", "other")
    say(a, "first")
    last, data = reader.event(None)
    equal(data["message"], "first", "what was said on the other node, in its room alone")
    equal(other.event(None)[1]["message"], "for others", "and the other room's")
    reader.close()
    texts = [f"missed {n}" for n in range(20)]
    for n, text in enumerate(texts):
        say((a, b)[n % 2], text)
        say((a, b)[n % 2], "not for it", "other")
    back = Stream(a.port, "/chat?room=general", last)  # to the other node
    got = [back.event(None) for _ in texts]
    equal(sorted(data["message"] for _, data in got), sorted(texts), "each once, and none of another room")
    ids = [int(number) for number, _ in got]
    check(ids == sorted(set(ids)) and ids[0] > int(last), f"ids run back: {last}, {ids}")
    odd = "a\r\nb "  # such as no header can have
    strange = Stream(b.port, f"/events?room={urllib.parse.quote(odd)}")
    plain = Stream(b.port, "/notifications?room=x")
    send(a, "for nobody", path="/events", filter={"room": "c"})
    send(a, "for events", path="/events", filter={"room": odd})
    send(a, "for all")
    equal([strange.event(None)[1]["text"] for _ in range(2)], ["for events", "for all"], "a filter of any characters")
    equal(plain.event(None)[1]["text"], "for all", "what has a path is for that alone")
    equal(ask(a.port, "POST", "/send", {"data": {"text": "x" * (3 << 19)}})[0], 503, "more than the servers take")
    present = Stream(a.port, "/chat?room=general&user=ann&presence=1")
    rooms = present.event(None)[1]
    while rooms["type"] != "presence":
        rooms = present.event(None)[1]
    check("ann" in json.dumps(rooms), rooms)
    check(json.loads(health(b.port)[1])["node"] == "b", "the node's name in /health")
    a.kill()
    b.kill()


def stop(server):
    server.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, server.process.pid, os.WSTOPPED)  # all its threads


def test_a_slow_server_delays(urls, server):
    """Its disk hangs: the server is stopped and let go, again and again, so that every write and answer comes late."""
    a, b = two("chat", urls)
    reader = Stream(b.port, "/chat?room=slow")

    def waiting(node):
        return int(re.search(r"^jetstream_waiting (\d+)", ask(node.port, "GET", "/metrics")[1], re.M)[1])

    for n in range(3):
        stop(server)
        texts = [f"slow {n} {k}" for k in range(10)]
        for text in texts:
            equal(ask(a.port, "POST", "/chat/send", {"user": "carl", "room": "slow", "message": text})[0], 200, "it is taken")
        equal(waiting(a), 10, "what is not stored waits, and is not said to be stored")
        if n == 0:  # longer than a heartbeat: the nodes say so themselves
            for node in (a, b):
                check(json.loads(wait_for_health(node.port, 503))["cluster_problem"] != "", "a sentence in /health")
            late = Stream(b.port, "/chat?room=slow&user=carl&presence=1")
            equal(late.status, 200, "streams open")
            check("carl" in json.dumps(late.event(None)[1]), "and get what is the node's own")
        server.process.send_signal(signal.SIGCONT)
        equal([reader.event(None)[1]["message"] for _ in texts], texts, "all of it, once and in order, on a stream that stayed open")
        eventually(lambda: waiting(a) == 0, "all is stored")
    for node in (a, b):
        wait_for_health(node.port, 200)
        node.kill()


def test_a_node_that_is_cut_off_admits_no_user(urls, server):
    a, b = two("notifications", urls)
    token = demo_token("carl")
    path = f"/chat/stream?token={urllib.parse.quote(token)}"
    before = Stream(a.port, path)
    equal(before.status, 200, "a stream")
    stop(server)
    wait_for_health(a.port, 503)
    eventually(lambda: ask_once(a.port, "GET", "/session", token=token)[0] == 503, "nobody knows who was revoked meanwhile")
    equal(Stream(a.port, path).status, 503, "no stream of a user")
    equal(ask_once(a.port, "POST", "/chat/send", {"roomId": "general", "message": "m"}, token)[0], 503, "no post")
    equal(Stream(a.port, "/system/status/stream").status, 200, "what is anybody's")
    server.process.send_signal(signal.SIGCONT)
    eventually(lambda: ask_once(a.port, "GET", "/session", token=token)[0] == 200, "users come in again")
    wait_for_health(b.port, 200)

    def arrives():
        return ask_once(b.port, "POST", "/chat/send", {"roomId": "general", "message": "m"}, token)[0] == 200

    eventually(arrives, "and post")
    equal(before.event("message")[1]["message"], "m", "which the stream gets that was open all the time")
    a.kill()
    b.kill()


def main():
    tried = subprocess.run([program("gateway"), "--port", "0", "--nats", "nats://127.0.0.1:1"], capture_output=True, text=True)
    if "built without" in tried.stderr:
        skip("the programs were built without cnats")
    directory = tempfile.mkdtemp()
    try:
        config, port = f"{directory}/nats.conf", free_port(OWN)
        with open(config, "w") as f:
            f.write(f'listen: {OWN}:{port}\njetstream {{ store_dir: "{directory}/store" }}\n')
        server = Server(port, shutil.which("nats-server"), "-c", config, address=OWN)
        server.wait_until_it_listens()
        urls = f"nats://{OWN}:{port}"
        test_gateways_count_together(urls)
        test_notifications_come_to_the_other_node_once(urls)
        test_a_revoked_user_is_gone_everywhere(urls)
        test_a_newer_token_is_good_again(urls)
        test_a_chat_goes_on_at_the_other_node(urls)
        test_a_slow_server_delays(urls, server)
        test_a_node_that_is_cut_off_admits_no_user(urls, server)
    finally:
        for child in CHILDREN:
            child.kill()
            child.wait()
        shutil.rmtree(directory, ignore_errors=True)


main()
