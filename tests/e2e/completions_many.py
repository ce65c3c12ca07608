#!/usr/bin/env python3
"""10,000 answers of a language model at once: each has a channel, a timer and a reader, all in 50 MB.

needs: python3

usage: completions_many.py [WORDS] [PACE]    Without: every reader gets its first token, and the second is an hour away. Else
reads all answers to that many words (two more are the model's own), with PACE ms (3000) between two, and says what was needed.
"""
import json
import os
import re
import resource
import selectors
import socket
import subprocess
import sys
import time

from _client import DEADLINE, check, program, skip

MOST = 50e6  # bytes


def memory(pid):
    """Bytes that the process has for itself: without its program and its libraries, with what malloc keeps."""
    with open(f"/proc/{pid}/status") as status:
        return 1024 * int(re.search(r"^RssAnon:\s+(\d+)", status.read(), re.MULTILINE)[1])


def main():
    whole = len(sys.argv) > 1
    words = int(sys.argv[1]) if whole else 3
    pace = sys.argv[2] if len(sys.argv) > 2 else "3000" if whole else "3600000"
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if not 0 <= hard < 10_100:
        resource.setrlimit(resource.RLIMIT_NOFILE, (10_100, hard))
    else:
        skip(f"it needs 10,100 descriptors, and may have {hard}")
    server = subprocess.Popen([program("completions"), "--port", "0", "--pace", pace, "--per-address", "0"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL)
    try:
        port = int(re.search(r":(\d+)/?$", server.stdout.readline().decode().strip())[1])
        prompt = " ".join(f"word{n}" for n in range(words))
        body = json.dumps({"stream": True, "messages": [{"role": "user", "content": prompt}]}).encode()
        ask = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        before = memory(server.pid)
        waiting = selectors.DefaultSelector()
        readers = [socket.create_connection(("127.0.0.1", port)) for _ in range(10_000)]  # all stay open
        tails = {}
        for s in readers:
            s.sendall(ask)
            waiting.register(s, selectors.EVENT_READ)
            tails[s] = b""
        end = b"data: [DONE]\n\n" if whole else b"}]}\n\n"
        size = most = 0
        until = time.monotonic() + (600 if whole else DEADLINE)
        while tails:
            check(time.monotonic() < until, f"{len(tails)} of 10,000 did not get what they wait for in time")
            for key, _ in waiting.select(1):
                s = key.fileobj
                more = s.recv(65536)
                check(more, "a stream ended early")
                size += len(more)
                tails[s] = (tails[s] + more)[-40:]
                if end in tails[s]:  # the end of the body may be behind it
                    waiting.unregister(s)
                    del tails[s]
            most = max(most, memory(server.pid))
        print(f"10,000 answers at once, {size // 10_000} bytes each: {(most - before) / 1e6:.1f} MB")
        check(whole or most - before < MOST, f"that is more than {MOST / 1e6:.0f} MB")
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
