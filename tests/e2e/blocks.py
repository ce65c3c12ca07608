#!/usr/bin/env python3
# needs: nginx curl openssl g++ node npm:graphql-sse npm:graphql
"""Every block of the documents that is no C++ (scripts/extract-examples has those) does what it says, run as it stands there.

A block is known by its page and first line, in RUN or NOT_RUN below: one that stands in neither fails, and so does one that is
not in its page any more. What is read otherwise, and nothing else:

    :8080 :3000 :8420           a free port; programs get `--port` with it
    /var/log/app                a folder of the test
    an id of 16 digits          how far it is above the first of its block
    data: 17                    any number
    ...                         more lines of any kind

In a block with `$ ` in front of its commands the other lines are what comes; where several commands write, in any order. In one
without, each line is a command: a program has to listen, `curl -N` and `tail` have to get something, curl no refusal, and
what ends by itself ends well.
"""
import gzip
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(os.environ.get("PROGRAMS", ROOT / "build/dev/bin")).resolve()
PATIENCE = 60  # seconds for anything that must come
SERVERS = {"gateway": 8080, "sharded": 8080, "chat": 3000, "notifications": 3000, "logs": 8420}


def blocks():
    """(page, first line, text, language) of each block that is not C++."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True)
    pages = listed.stdout.split() if listed.returncode == 0 else ["README.md", *map(str, ROOT.glob("docs/**/*.md"))]
    for page in pages:
        for language, text in re.findall(r"^```([\w+-]*)\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE):
            if language != "cpp":
                yield page, text.splitlines()[0], text, language


def until(what, condition):
    end = time.monotonic() + PATIENCE
    while not (result := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain for {what()}")
        time.sleep(0.01)
    return result


class Command:
    """A shell's command, and the lines that it writes."""

    def __init__(self, place, line):
        self.line = line
        self.child = subprocess.Popen(["bash", "-c", line], cwd=place.folder, env=place.env, stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.out, self.err = [], []
        self.readers = [threading.Thread(target=lambda pipe, to: to.extend(iter(pipe.readline, "")), args=pair, daemon=True)
                        for pair in ((self.child.stdout, self.out), (self.child.stderr, self.err))]
        for reader in self.readers:
            reader.start()

    def says(self):
        return f"{self.line}\n{''.join(self.out[-20:])}{''.join(self.err[-20:])}"

    def ended_well(self):
        code = self.child.wait(PATIENCE)
        for reader in self.readers:
            reader.join(PATIENCE)
        assert code == 0, f"exit code {code}: {self.says()}"

    def gets(self, what):
        """Waits until `what()` holds, which a command that has ended cannot bring about any more."""
        until(self.says, lambda: what() or self.child.poll() is not None)
        if not what():
            self.ended_well()
        assert what(), self.says()

    def stop(self):
        if self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGTERM)
            self.child.wait(PATIENCE)
        until(lambda: f"the end of what `{self.line}` began", self.all_ended)  # it may write still

    def all_ended(self):
        try:
            os.killpg(self.child.pid, 0)
        except ProcessLookupError:
            return True
        return False


class Place:
    """An empty folder with this repository as ssehub/, the programs on the PATH, and ports of its own."""

    def __init__(self, folder):
        self.folder = Path(folder)
        (self.folder / "ssehub").symlink_to(ROOT)
        (self.folder / "node_modules").symlink_to(os.environ.get("NODE_PATH", "/nonexistent"))
        self.env = os.environ | {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "KEY": "0123456789abcdef0123456789abcdef"}
        sockets = {port: socket.create_server(("127.0.0.1", 0)) for port in (80, *SERVERS.values())}
        self.ports = {port: s.getsockname()[1] for port, s in sockets.items()}
        for s in sockets.values():
            s.close()
        self.commands = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for command in reversed(self.commands):
            command.stop()

    def read(self, text):
        text = re.sub(r":(8080|3000|8420)\b", lambda m: f":{self.ports[int(m[1])]}", text)
        return text.replace("/var/log/app", str(self.folder / "logs"))

    def begin(self, line):
        self.commands.append(Command(self, self.read(line)))
        return self.commands[-1]

    def serve(self, line, port):
        """A server, in the place of the one before it on that port."""
        for command in self.commands:
            if getattr(command, "port", None) == port:
                command.stop()
        command = self.begin(f"exec {line} --port {self.ports[port]}" if "|" not in line else f"{line} --port {self.ports[port]}")
        command.port = port
        command.gets(lambda: any(out.startswith("listening on ") for out in command.out))

    def listens(self, port):
        def connects():
            try:
                socket.create_connection(("127.0.0.1", self.ports[port]), timeout=PATIENCE).close()
                return True
            except ConnectionRefusedError:
                return False
        until(lambda: f"somebody on port {port}", connects)

    def run(self, line):
        """One command of a block without prompts."""
        line = re.sub(r"\s{2,}#.*$", "", line)
        first, program = shlex.split(line)[0], shlex.split(line.rpartition("|")[2])[0]
        if program in SERVERS:
            return self.serve(line, SERVERS[program])
        if first == "curl":
            line = line.replace("curl ", "curl -sSf ", 1)
        command = self.begin(line)
        written = re.search(r">> (\S+)$", line)
        if written:
            command.gets(lambda: (self.folder / written[1]).exists() and (self.folder / written[1]).stat().st_size > 0)
        elif first == "tail" or "-N " in line:
            command.gets(lambda: "".join(command.out).strip())
        else:
            command.ended_well()
            return None
        return command.stop()


def relative(lines):
    """Lines without what varies."""
    ids = re.findall(r"\b\d{16}\b", "\n".join(lines))
    first = int(ids[0]) if ids else 0
    lines = [re.sub(r"\b\d{16}\b", lambda m: f"<id + {int(m[0]) - first}>", line.rstrip("\n")) for line in lines]
    return [re.sub(r"^data: \d+$", "data: <number>", line) for line in lines]


def transcript(place, text):
    """A block with prompts."""
    parts = [part.splitlines() for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]]
    wanted, running, more = [], [], "..." in text.splitlines()

    def lacks():  # lines of one command have an order; where there are several, an empty one may be another's
        want, come = relative(wanted), relative([line for command in running for line in list(command.out)])
        if len(parts) == 1:
            return come[:len(want)] != want
        return Counter(filter(None, want)) - Counter(come)

    for line, *lines in parts:
        line = re.sub(r"\s{2,}#.*$", "", line)
        wanted += [line for line in lines if line != "..."]
        command = place.begin(line.removesuffix("&").replace("curl ", "curl -sSf "))
        running.append(command)
        if line.startswith("./"):
            place.listens(8080)
        elif "-N " not in line:
            command.ended_well()
        until(lambda: f"{wanted}, {lacks()}: {command.says()}", lambda: not lacks())
    for command in running:
        command.stop()
    written = sum(bool(line.strip()) for command in running for line in command.out)
    assert more or written == len(list(filter(None, wanted))), f"{written} lines came, which the block does not say:\n{text}"


def program_of(page, place, name):
    """The first C++ block of a page, as a file."""
    text = re.search(r"^```cpp\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)[1]
    (place.folder / name).write_text(text.replace("8080", str(place.ports[8080])))


def commands(*before):
    """Runs each line of the block, behind those of `before`, which the text in front of it tells of."""
    def run(place, text):
        for line in (*before, *text.splitlines()):
            place.run(line)
    return run


def hello(place, text):
    program_of("README.md", place, "main.cpp")
    place.begin("g++ -std=c++20 -O0 -I ssehub/include main.cpp -o hello -pthread").ended_well()
    place.begin("./hello")
    place.listens(8080)
    transcript(place, text)


def first_stream(place, text):
    program_of("docs/guide/first-stream.md", place, "first.cpp")
    transcript(place, text)


def gap_frame(place, text):
    """What a reader gets that asks for what is not kept any more."""
    place.serve("sharded --threads 1 --rate 1 --keep 5", 8080)
    asked = re.search(r'"requested":(\d+)', text)[1]
    stream = place.begin(f'curl -sSfN "http://127.0.0.1:8080/events?last_id={asked}"')
    frame = [re.sub(r"\d{16}", "<id>", line) for line in text.splitlines()]
    stream.gets(lambda: len(stream.out) >= len(frame))
    got = [re.sub(r"\d{16}", "<id>", line.rstrip("\n")) for line in stream.out]
    assert got[:len(frame)] == frame, f"{got} is not {frame}"


def tls(place, text):
    request, stream = [line.removeprefix("$ ") for line in text.splitlines()]
    place.begin(request).ended_well()
    place.serve("gateway --tls-cert chain.pem --tls-key key.pem", 8080)
    place.run(stream.replace("/events", "/api/stream"))  # the page's own program is compiled by tests/guide


def journal(place, text):
    """Each of the words that the usage has between its bars."""
    name, words, _ = text.split()
    place.serve("gateway --trades --journal DIR", 8080)
    place.run("curl -N http://127.0.0.1:8080/api/stream?last_id=0")
    place.run(f"{name} tail DIR 1 >> tailed")
    place.commands[0].stop()
    assert "tail" in words.split("|"), words
    for word in words.split("|"):
        if word != "tail":
            place.run(f"{name} {word} DIR")


def graphql(place, text):
    place.serve("chat", 3000)
    place.run("""curl -d '{"name":"liveEvents","initial":"ready"}' http://127.0.0.1:3000/graphql/subscriptions""")
    (place.folder / "client.mjs").write_text(place.read(text))
    client = place.begin("node client.mjs")
    client.gets(lambda: client.out == ["ready\n"])


def behind_nginx(server, path):
    """The block as a part of a server of nginx, in front of this server: nginx takes it, and a stream arrives."""
    def run(place, text):
        (place.folder / "logs").mkdir()
        (place.folder / "logs/web.log").write_text("a line\n")
        place.serve(server, SERVERS[server.split()[0]])
        temp = "".join(f"  {kind}_temp_path {place.folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (place.folder / "nginx.conf").write_text(f"""daemon off;
{"user root;" if os.geteuid() == 0 else ""}
pid {place.folder}/pid;
events {{}}
http {{
  access_log off;
{temp}  server {{
    listen 127.0.0.1:{place.ports[80]};
{place.read(text)}  }}
}}
""")
        nginx = f"exec nginx -p {place.folder} -c {place.folder}/nginx.conf -e {place.folder}/error.log"
        place.begin(f"{nginx} -t").ended_well()
        place.begin(nginx)
        place.listens(80)
        place.run(f"curl -N http://127.0.0.1:{place.ports[80]}{path}")
    return run


def with_log(run):
    def prepared(place, text):
        (place.folder / "logs").mkdir()
        (place.folder / "logs/web.log").write_text("a line\n")
        run(place, text)
    return prepared


def with_recording(run):
    def prepared(place, text):
        trade = ('{"e":"trade","E":1700000000000,"s":"BTCUSDT","t":%d,"p":"60000.00","q":"0.01","T":1700000000000,"m":false}')
        with gzip.open(place.folder / "recording.ndjson.gz", "wt") as recording:
            for i in range(100):
                recording.write(f'{1700000000000000000 + i} {{"stream":"btcusdt@trade","data":{trade % i}}}\n')
        engine = place.folder / "my_engine"
        engine.write_text("#!/bin/sh\nexec cat\n")
        engine.chmod(0o755)
        run(place, text)
    return prepared


RUN = {
    ("README.md", "$ curl -N http://127.0.0.1:8080/events"): hello,
    ("README.md", "tail http://127.0.0.1:8080/api/stream --last-id 0 --filter fill --json"): commands("gateway --trades"),
    ("README.md", "gateway                                        # simulated market and engine"): with_recording(commands()),
    ("README.md", "logs --data /var/log/app"): with_log(commands()),
    ("docs/chat.md", 'curl -N "http://127.0.0.1:3000/chat?room=general"'): commands("chat"),
    ("docs/chat.md", "import {createClient} from 'graphql-sse';"): graphql,
    ("docs/logs.md", "logs --data /var/log/app                                     # http://127.0.0.1:8420/"): with_log(commands()),
    ("docs/logs.md", "location ~ ^/(logs/|api/logs/stream) {"): behind_nginx("logs --data /var/log/app", "/logs/web?backlog=50"),
    ("docs/notifications.md", "notifications                                    # demo tokens, port 3000"): commands(),
    ("docs/guide/durability.md", "ssehub-journal info|verify|dump|tail|repair DIR"): journal,
    ("docs/guide/first-stream.md", "$ g++ -std=c++20 -I ssehub/include first.cpp -o first -pthread    # Asio: apt install libasio-dev"): first_stream,
    ("docs/guide/proxies.md", "location /events {"): behind_nginx("sharded --threads 1", "/events"),
    ("docs/guide/resume.md", "id: 1795257600000002"): gap_frame,
    ("docs/guide/tls.md", "$ openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost -keyout key.pem -out chain.pem"): tls,
}
# A reason, and what is looked at instead: files that are named must be there.
NOT_RUN = {
    ("README.md", "scripts/demo        # a live trading dashboard on http://127.0.0.1:8080/"): "they install packages; scripts/test is a lane",
    ("README.md", "cp ssehub/single_include/sse/sse_server.hpp ."): "tests/check-ways does",
    ("README.md", "cat > CMakeLists.txt <<'END'"): "tests/check-ways does",
    ("README.md", 'cmake -S ssehub -B ssehub-build && cmake --install ssehub-build --prefix "$PWD/local"'): "tests/check-ways does",
    ("README.md", 'ssehub/scripts/release "$PWD/ssehub-release"'): "tests/check-ways does, where vcpkg is",
    ("README.md", "conan profile detect --exist-ok"): "tests/check-ways does, where Conan is",
    ("docs/architecture.md", ' publish ──► log of the channel   [ 41 | 42 | 43 | 44 | 45 ]          bytes in segments that never move'): "a drawing",
    ("docs/guide/market-data.md", "const watched = new Set(['ACME', 'IBM']);"): "tests/e2e/watch.mjs runs a page that does the same",
    ("docs/performance.md", "bench_journal [--publishers 64]"): "it takes minutes, and wants quiet",
    ("docs/performance.md", "scripts/bench            # all, in under 20 minutes on two cores; --quick: in about 3, for a look"): "it takes minutes, and wants quiet",
}


def main():
    found = {(page, first): (text, language) for page, first, text, language in blocks()}
    problems = [f"{page}: `{first}`: say in tests/e2e/blocks.py how this block is run" for page, first in found
                if (page, first) not in RUN and (page, first) not in NOT_RUN]
    problems += [f"tests/e2e/blocks.py: {page} has no such block any more: `{first}`" for page, first in (*RUN, *NOT_RUN)
                 if (page, first) not in found]
    for key, why in NOT_RUN.items():
        for script in re.findall(r"^(?:ssehub/)?(scripts/\S+)", found.get(key, ("",))[0], re.MULTILINE):
            if not os.access(ROOT / script, os.X_OK):
                problems.append(f"{key[0]}: there is no {script}")
    for (page, first), run in RUN.items():
        if (page, first) not in found or not re.search(sys.argv[1] if len(sys.argv) > 1 else "", f"{page} {first}"):
            continue
        try:
            with tempfile.TemporaryDirectory(prefix="ssehub_blocks_") as folder, Place(folder) as place:
                run(place, found[page, first][0])
            print(f"ok      {page}: {first}", flush=True)
        except (AssertionError, OSError, subprocess.SubprocessError) as problem:
            problems.append(f"{page}: `{first}`: {problem}")
    if problems:
        sys.exit("\n".join(problems))


main()
