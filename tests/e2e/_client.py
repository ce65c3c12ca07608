"""What the tests of the client share: tail as a child, a proxy that cuts connections, a scripted server.

Every wait has a deadline. Not a test.
"""
import atexit
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import threading
import time

DEADLINE = 60
CHILDREN = []


def skip(what):
    name = os.path.basename(sys.argv[0])
    if os.environ.get("CI") == "true":
        sys.exit(f"FAILED {name}: {what}")
    print(f"SKIPPED {name}: {what}", file=sys.stderr)
    sys.exit(77)


def program(name):
    return os.path.join(os.environ.get("PROGRAMS", "build/dev/bin"), name)


def check(holds, what):
    if not holds:
        raise AssertionError(what)


def equal(got, expected, what):
    check(got == expected, f"{what}: {got!r}, expected {expected!r}")


@atexit.register
def _end_children():
    for child in CHILDREN:
        if child.poll() is None:
            child.kill()
            child.wait()


def spawn(*command, **options):
    child = subprocess.Popen(command, **options)
    CHILDREN.append(child)
    return child


class Tail:
    """tail with what it wrote."""

    def __init__(self, *arguments):
        self.child = spawn(program("tail"), *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE)
        self.out, self.err = [], []
        self.changed = threading.Condition()
        self.readers = [threading.Thread(target=self._read, args=pair, daemon=True)
                        for pair in ((self.child.stdout, self.out), (self.child.stderr, self.err))]
        for reader in self.readers:
            reader.start()

    def _read(self, pipe, lines):
        for line in pipe:
            with self.changed:
                lines.append(line.decode())
                self.changed.notify_all()

    def until(self, what, condition):
        with self.changed:
            if not self.changed.wait_for(condition, DEADLINE):
                raise AssertionError(f"waited in vain: {what}\n{''.join(self.out[-5:])}\n{''.join(self.err[-5:])}")

    def end(self):
        """Waits for it; returns its exit code."""
        code = self.child.wait(DEADLINE)
        for reader in self.readers:
            reader.join(DEADLINE)
        return code

    def events(self):
        return [json.loads(line) for line in self.out]


def hang_up(connection, reset):
    try:
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    connection.close()


class Listener:
    def __init__(self, port=0):
        self.socket = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()


class Cutter(Listener):
    """Passes connections on to a port, and cuts each after a random number of the bytes that came back."""

    def __init__(self, to, most, seed=1):
        self.to, self.most, self.random, self.cuts = to, most, random.Random(seed), 0
        super().__init__()

    def _serve(self, client):
        left, reset = self.random.randrange(self.most), self.random.random() < 0.5
        try:
            server = socket.create_connection(("127.0.0.1", self.to), DEADLINE)
        except OSError:
            return client.close()
        # One thread for both directions: a close does not reach the peer while another thread reads.
        try:
            while left:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(min(left, 4096) if ready is server else 4096)
                    if not data:
                        raise ConnectionError
                    (client if ready is server else server).sendall(data)
                    left -= len(data) if ready is server else 0
        except OSError:
            pass
        self.cuts += left == 0
        hang_up(client, reset)
        hang_up(server, False)


class Server(Listener):
    """Calls script(connection, request, n) for the n-th request, from 0; then the connection ends.

    `requests` holds (time, head) of each.
    """

    def __init__(self, script, wrap=None):
        self.script, self.wrap, self.requests, self.lock = script, wrap, [], threading.Lock()
        super().__init__()

    def url(self, target="/", scheme="http", host="127.0.0.1"):
        return f"{scheme}://{host}:{self.port}{target}"

    def _serve(self, connection):
        try:
            if self.wrap:
                connection = self.wrap(connection)
            data = b""
            while b"\r\n\r\n" not in data:
                more = connection.recv(4096)
                if not more:
                    return connection.close()
                data += more
            head, _, body = data.partition(b"\r\n\r\n")
            length = int(header(head.decode("latin-1"), "Content-Length") or 0)
            while len(body) < length:
                body += connection.recv(4096)
            with self.lock:
                n = len(self.requests)
                self.requests.append((time.monotonic(), head.decode("latin-1")))
            self.script(connection, (head + b"\r\n\r\n" + body).decode("latin-1"), n)
        except OSError:
            pass
        hang_up(connection, False)


def header(head, name):
    for line in head.split("\r\n")[1:]:
        key, _, value = line.partition(":")
        if key.lower() == name.lower():
            return value.strip()
    return None


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


def read_through_cuts(port, path, count, most, seed, *flags):
    """Reads `count` events with tail through a Cutter; returns them and the number of cuts."""
    cutter = Cutter(port, most, seed)
    tail = Tail(f"http://127.0.0.1:{cutter.port}{path}", "--json", "--count", str(count), *flags)
    code = tail.end()
    equal(code, 0, f"tail's exit code; {''.join(tail.err[-3:])}")
    return tail.events(), cutter.cuts
