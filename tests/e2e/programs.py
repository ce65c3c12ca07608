#!/usr/bin/env python3
"""What a program is started with, and what it does where the disk is full.

needs: python3
"""
import http.client
import os
import resource
import subprocess
import tempfile
import time

from _client import DEADLINE, check, equal, program


def test_a_first_program_says_what_it_does():
    for name in ("hello", "sharded", "engine_journal"):
        if not os.path.exists(program(name)):
            continue
        said = subprocess.run([program(name), "--help"], capture_output=True, text=True, timeout=DEADLINE)
        check(name in said.stdout + said.stderr, f"{name} --help says nothing of itself: {said}")
    equal(subprocess.run([program("hello"), "--help"], capture_output=True, timeout=DEADLINE).returncode, 0, "hello --help")


def test_small_programs_have_only_what_they_use():
    def uses(name, library):
        with open(program(name), "rb") as f:
            return library in f.read()

    for library in (b"8simdjson", b"3fmt2v"):  # as compilers write simdjson::, and fmt::v9
        check(uses("gateway", library), f"the gateway has no {library}: this test sees nothing")
        for name in ("hello", "sharded", "epoll_engine"):
            check(not uses(name, library), f"{name} has {library} in it")


class Logs:
    """The log server over a directory in which no file may have more than so many bytes."""

    def __init__(self, directory, most):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        # Python ignores SIGXFSZ, and its child goes on doing so: a write says that there is no room.
        self.child = subprocess.Popen([program("logs"), "--port", "0", "--data", directory], stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL, preexec_fn=limit, restore_signals=False)
        self.port = int(self.child.stdout.readline().rsplit(b":", 1)[1].strip(b"/\n"))

    def ask(self, method, target):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        connection.request(method, target)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body


def test_a_full_disk_stops_nobody():
    with tempfile.TemporaryDirectory() as directory:
        logs = Logs(directory, 100)
        status, body = logs.ask("POST", "/deployments")
        check(status in (200, 201, 303), f"a deployment: {status} {body[:200]}")
        until = time.monotonic() + DEADLINE
        while not any(os.path.getsize(os.path.join(directory, f)) == 100 for f in os.listdir(directory)):
            check(time.monotonic() < until, "no file becomes as large as it may")
            time.sleep(0.05)
        equal(logs.ask("GET", "/health")[0], 200, "the server, when there is no room")
        check(logs.child.poll() is None, "the server ended")
        logs.child.terminate()
        equal(logs.child.wait(DEADLINE), 0, "its end")


for test in (test_a_first_program_says_what_it_does, test_small_programs_have_only_what_they_use, test_a_full_disk_stops_nobody):
    test()
    print(f"ok {test.__name__}")
