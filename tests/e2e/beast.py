"""examples/beast: the page is Beast's, /events is a stream of ours on the same port, and a browser's resume works there.

needs: curl
"""
import http.client
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(__file__))
from _client import check, equal, program, skip, spawn  # noqa: E402

if not os.path.exists(program("beast")):
    skip("no program beast: it needs Boost, and -DSSEHUB_WITH_BOOST=ON")
server = spawn(program("beast"), "--port", "0", stdout=subprocess.PIPE)
url = server.stdout.readline().decode().strip()
port = int(re.search(r":(\d+)/$", url)[1])


def get(path, headers={}):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    c.request("GET", path, headers=headers)
    return c, c.getresponse()


c, r = get("/")
check(b"EventSource" in r.read(), "the page")
c.request("GET", "/none")  # on the same connection
r = c.getresponse()
equal((r.status, r.read()), (404, b"not found\n"), "no such page")


def event_of(stream):
    """(id, data) of the next event"""
    found = {}
    while True:
        line = stream.readline().decode().rstrip("\n")
        if line == "" and "data" in found:
            return int(found["id"]), int(found["data"])
        if ": " in line:
            found.update([line.split(": ", 1)])


c, r = get("/events", {"Last-Event-ID": "0"})
equal(r.getheader("Content-Type"), "text/event-stream", "it is a stream")
first, one = event_of(r)
second, two = event_of(r)
equal((one, two), (1, 2), "from the first event on, then live")
check(first < second, "ids rise")
c.close()
c, r = get("/events", {"Last-Event-ID": str(first)})
equal(event_of(r), (second, two), "it goes on where it was")
c.close()
c, r = get("/events", {"Accept": "text/html"})
equal((r.status, r.read()[:5]), (406, b'{"err'), "a refusal is answered by Beast")
