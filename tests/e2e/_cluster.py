"""What the tests of many nodes share: programs that listen and are killed, and /health. Not a test."""
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from _client import CHILDREN, check, spawn

# An address of the loopback net for the servers that no other process takes, whatever listens on 127.0.0.1 meanwhile.
OWN = "127.{}.{}.{}".format(128 + (os.getpid() >> 16 & 127), os.getpid() >> 8 & 255, os.getpid() & 255)


def free_port(address="127.0.0.1"):
    with socket.socket() as s:
        s.bind((address, 0))
        return s.getsockname()[1]


class Server:
    """A program that listens."""

    def __init__(self, port, *command, address="127.0.0.1"):
        self.address = address
        self.port = port
        self.command = command
        self.start()

    def start(self):
        self.said = tempfile.TemporaryFile("w+")  # of this run
        self.process = spawn(*self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.said)

    def end(self):
        self.said.seek(0)
        return f"{self.command[0]} ended with {self.process.returncode}:\n{self.said.read()[-2000:]}"

    def kill(self):
        self.process.kill()
        self.process.wait()
        CHILDREN.remove(self.process)

    def wait_until_it_listens(self):
        deadline = time.monotonic() + 60
        while True:
            try:
                return socket.create_connection((self.address, self.port), 1).close()
            except OSError:
                if self.process.poll() is not None:
                    raise AssertionError(self.end())
                check(time.monotonic() < deadline, f"{self.command} does not listen")
                time.sleep(0.02)


def health(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def wait_for_health(port, status):
    deadline = time.monotonic() + 60
    while (got := health(port))[0] != status:
        check(time.monotonic() < deadline, f"/health is {got}, not {status}")
        time.sleep(0.1)
    return got[1]
