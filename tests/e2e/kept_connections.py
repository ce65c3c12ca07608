#!/usr/bin/env python3
"""Python's http.client, requests and curl over kept connections: streams between plain requests, bodies in chunks.

Each judges for itself whether its connection can be used again. A stream that is cut is never taken for one that ended.
needs: python3 python:requests curl
"""
import http.client
import json
import re
import subprocess

import requests

import _client as client
from _client import check, equal

ASK = json.dumps({"stream": True, "messages": [{"role": "user", "content": "one two three"}]})
PATH = "/v1/chat/completions"
ENDED = b"data: [DONE]\n\n"


def pieces():
    """A body whose length nobody knows beforehand."""
    yield ASK[:7].encode()
    yield ASK[7:].encode()


def http_client():
    c = http.client.HTTPConnection("127.0.0.1", PORT, timeout=client.DEADLINE)
    c.connect()
    sock = c.sock
    for _ in range(10):
        c.request("GET", "/health")
        equal(c.getresponse().read(), b'{"ok":true}', "a plain answer")
        c.request("POST", PATH, pieces(), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
        r = c.getresponse()
        check(r.read().endswith(ENDED), "the stream is whole")
        check(c.sock is sock, "http.client keeps its connection")
    c.close()


def cut_streams():
    """The server dies in the middle of its words."""
    c = http.client.HTTPConnection("127.0.0.1", PORT, timeout=client.DEADLINE)
    c.request("POST", PATH, json.dumps({"stream": True, "messages": [{"role": "user", "content": "x " * 100_000}]}))
    r = c.getresponse()
    check(r.read(100), "it has begun")
    SERVER.kill()
    try:
        r.read()
    except http.client.IncompleteRead:
        return
    check(False, "a stream that was cut looks ended")


def with_requests():
    with requests.Session() as s:
        for _ in range(10):
            equal(s.get(URL + "/health").json(), {"ok": True}, "a plain answer")
            with s.post(URL + PATH, data=pieces(), stream=True) as r:
                check(b"".join(r.iter_content(None)).endswith(ENDED), "the stream is whole")
        pools = s.get_adapter(URL).poolmanager.pools
        equal([pools[k].num_connections for k in pools.keys()], [1], "connections of requests")


def curl():
    command = ["curl", "-sv", URL + "/health"]
    for _ in range(5):
        command += ["--next", "-sv", "-H", "Transfer-Encoding: chunked", "-d", ASK, URL + PATH, "--next", "-sv", URL + "/health"]
    done = subprocess.run(command, capture_output=True, timeout=client.DEADLINE, check=True)
    equal(done.stdout.count(ENDED), 5, "streams that curl read")
    equal(len(re.findall(rb"Re-using existing connection", done.stderr)), 10, "requests on the connection of the first")


SERVER = client.spawn(client.program("completions"), "--port", "0", "--pace", "1", stdout=subprocess.PIPE,
                      stderr=subprocess.DEVNULL, text=True)
PORT = int(re.fullmatch(r"listening on http://127\.0\.0\.1:(\d+)/", SERVER.stdout.readline().strip())[1])
URL = f"http://127.0.0.1:{PORT}"
for part in http_client, with_requests, curl, cut_streams:
    part()
    print("ok     ", part.__name__)
