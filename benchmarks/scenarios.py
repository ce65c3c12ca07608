"""What is measured, and the rows of the performance table that it answers.

A scenario returns {case: {"runs": [...], "median": {...}}}. `quick` makes it shorter, not different.
"""
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

from harness import (ASIO, BETTER_SSE, BIN, CORES, EPOLL, HTTPLIB, HUB, IO_URING, NCHAN, NGINX_TLS, OURS, OURS_TLS, PLAIN_ASIO, RAW,
                     RAW_COALESCED, ROOT, alternate, certificate, present, program, serve, start_server, stop, window)

ALL = {c.name: c for c in [RAW, RAW_COALESCED, *OURS, PLAIN_ASIO, HTTPLIB, NCHAN, BETTER_SSE, *OURS_TLS, NGINX_TLS]}
LABELS = {name: c.label for name, c in ALL.items()}


def each(contenders, run):
    return {c.name: (lambda c=c: run(c)) for c in present(contenders)}


def fanout(quick):
    contenders = [RAW, *OURS, PLAIN_ASIO, HTTPLIB, NCHAN, BETTER_SSE]
    return alternate(3 if quick else 11, each(contenders, lambda c: serve(c, seconds=0.7 if quick else 1, rate=0)))


def overload(quick):
    """5,000 events/s to 1,000 connections; and flat out: 10,000 events/s, where only how fast it gets through counts."""
    seconds = 0.5 if quick else 3
    peers = [PLAIN_ASIO] if quick else [PLAIN_ASIO, HTTPLIB, NCHAN, BETTER_SSE]
    cases = each([RAW_COALESCED, *OURS, *peers], lambda c: serve(c, seconds=seconds, rate=5000, load=["--warmup", 0]))
    cases |= {f"{name} flat out": run for name, run in each(
        [RAW_COALESCED, *OURS], lambda c: serve(c, seconds=0.3 if quick else 2, rate=10_000, grace=10)).items()}
    cases |= {f"{name} flat out": run for name, run in each(
        [PLAIN_ASIO], lambda c: serve(c, seconds=0.3 if quick else 2, rate=10_000, grace=2)).items()}
    return alternate(3, cases)


def connections_10k(quick):
    seconds = 0.7 if quick else 4
    contenders = [RAW_COALESCED, HUB, EPOLL, ASIO] if quick else [RAW_COALESCED, *OURS, PLAIN_ASIO]
    return alternate(1 if quick else 3, each(contenders, lambda c: serve(c, connections=10_000, seconds=seconds, rate=400, grace=3)))


def latency(quick):
    """One publisher thread beside the loop. Busy-poll: neither the server's loop nor the reader sleeps."""
    seconds = 0.5 if quick else 1.5
    able = [RAW, *OURS]
    cases = {f"{n} 1": run for n, run in each(able, lambda c: serve(
        c, connections=1, rate=500, seconds=seconds, publisher="thread")).items()}
    cases |= {f"{n} 100": run for n, run in each(able, lambda c: serve(
        c, connections=100, rate=1000, seconds=seconds, publisher="thread")).items()}
    cases |= {f"{n} busy": run for n, run in each(able, lambda c: serve(
        c, connections=1, rate=500, seconds=seconds, publisher="thread", busy_poll=True)).items()}
    return alternate(3 if quick else 5, cases)


def resident_kb(pid):
    """Of a process and its children."""
    total = 0
    for p in os.listdir("/proc"):
        if not p.isdigit():
            continue
        try:
            with open(f"/proc/{p}/stat", encoding="ascii") as f:
                parent = int(f.read().rsplit(")")[1].split()[1])
            if int(p) != pid and parent != pid:
                continue
            with open(f"/proc/{p}/status", encoding="ascii") as f:
                total += next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
        except (OSError, StopIteration, ValueError):
            continue
    return total


def idle(contender, n, *load_options):
    """Resident memory of the server process, per open stream, without the kernel's."""
    server, port = start_server(contender, connections=n + 1)
    load = None
    try:
        def hold(count):
            child = subprocess.Popen([str(BIN / "bench_load"), port, "--hold", "--connections", str(count), "--core",
                                      str(CORES[1]), *window(contender), *load_options], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True)
            if child.stdout.readline().strip() != "open":
                raise RuntimeError("streams did not open")
            return child

        warm = hold(10)  # what a first stream loads once
        before = resident_kb(server.pid)
        load = hold(n - 10)
        time.sleep(0.2)
        after = resident_kb(server.pid)
        for child in (warm, load):
            child.stdin.close()
            child.wait()
        return {"bytes_each": (after - before) * 1024 / (n - 10), "connections": n}
    finally:
        if load is not None:
            stop(load)
        stop(server)


def idle_memory(quick):
    """Resident memory of the server process, per open stream, without the kernel's."""
    contenders = [RAW, *OURS, PLAIN_ASIO, HTTPLIB, NCHAN, BETTER_SSE]
    return alternate(1, each(contenders, lambda c: idle(c, 1000 if c is HTTPLIB else 10_000)))


def tls(quick):
    """1,000 connections with TLS, 30 events/s, and idle; each transport's CPU against bare SSL_write of the same bytes.

    Not flat out: whoever stands in front takes each event at once, and sends what piled up there together.
    """
    contenders = [*OURS_TLS, NGINX_TLS]
    found = alternate(1 if quick else 5, each(contenders, lambda c: serve(c, seconds=2 if quick else 5, rate=30, load=["--tls"])))
    found |= alternate(1, {f"{n} idle": run for n, run in each(contenders, lambda c: idle(c, 1000, "--tls")).items()})
    if (BIN / "bench_tls_cost").exists():
        files = certificate()[1::2]
        shapes = {"small": (200, 180, 1), "burst": (200, 180, 10), "records": (200, 16000, 4)}
        found |= alternate(3, {f"cost {name}": (lambda s=s: program("tls_cost", *files, *s)) for name, s in shapes.items()})
    return found


def stalled_readers(quick):
    """900 readers with and without 100 more that never read, flat out (10,000 events/s)."""
    seconds = 0.3 if quick else 2.5
    cases = {}
    for c in present([HUB, EPOLL, ASIO]):
        cases[f"{c.name} all read"] = lambda c=c: serve(c, connections=900, rate=10_000, seconds=seconds, grace=10)
        cases[f"{c.name} 100 stalled"] = lambda c=c: serve(c, connections=1000, rate=10_000, seconds=seconds, grace=10,
                                                         load=["--stalled", 100])
    return alternate(3, cases)


def reconnect_storm(quick):
    """1,000 connections, 500 events/s, 100 of them per second come back with their Last-Event-ID."""
    seconds = 2 if quick else 4
    return alternate(1 if quick else 3, each([RAW, HUB, EPOLL, ASIO], lambda c: serve(
        c, rate=500, seconds=seconds, load=["--reconnects", 100])))


def all_at_once(quick):
    """10,000 connections, 400 events/s, a tenth of them stalled, 100 reconnects per second."""
    return alternate(1, each([EPOLL, HUB, ASIO], lambda c: serve(
        c, connections=10_000, rate=400, seconds=1 if quick else 5, grace=5, load=["--stalled", 1000, "--reconnects", 100])))


def publish_latency(quick):
    return alternate(3 if quick else 5, {"publish_latency": lambda: program(
        "publish_latency", "--events", 20_000 if quick else 200_000, "--core", CORES[0], "--publisher-core", CORES[1])})


def value_age(quick):
    """500 symbols, each updated 100 times a second, on a line of 20 kB/s: benchmarks/value_age.cpp."""
    return alternate(1 if quick else 3, {mode: (lambda mode=mode: program(
        "value_age", "--mode", mode, "--seconds", 4 if quick else 8)) for mode in ("conflated", "chosen", "paced", "plain")})


def million_subscribers(quick):
    return alternate(3, {"million": lambda: program("million_subscribers", "--core", CORES[0])})


def cluster(quick):
    """An order over NATS JetStream beside bare cnats, over one server and over three: benchmarks/cluster.cpp."""
    if shutil.which("nats-server") is None or not (BIN / "bench_cluster").exists():
        print("  skipped: nats-server or cnats is missing")
        return {}
    events = 20_000 if quick else 100_000
    servers = []
    with tempfile.TemporaryDirectory() as directory:
        try:
            one, three = nats_servers(directory, servers, 1), nats_servers(directory, servers, 3)
            places = {"1 server": (one, 1), "3 servers": (three, 3)}
            cases = {}
            for place, (urls, replicas) in places.items():
                def run(mode, *more, urls=urls, replicas=replicas):
                    return program("cluster", "--servers", urls, "--replicas", replicas, "--events", events, *more, mode)
                for mode in ("rate", "bare_rate"):
                    for nodes in (1, 3):
                        cases[f"{mode} {nodes}, {place}"] = lambda run=run, mode=mode, nodes=nodes: run(mode, "--nodes", nodes)
                for mode in ("latency", "bare_latency", "catch_up", "bare_catch_up"):
                    cases[f"{mode}, {place}"] = lambda run=run, mode=mode: run(mode)
            cases["herd"] = lambda: program("cluster", "--servers", one, "--events", 20_000, "herd")
            return alternate(1 if quick else 3, cases)
        finally:
            for server in servers:
                server.kill()
                server.wait()


def nats_servers(directory, started, n):
    """Starts them, on an address of the loopback net that is this process's own; their URLs."""
    address = f"127.{128 + (os.getpid() >> 16 & 127)}.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
    ports = [[free_port(address) for _ in range(n)] for _ in range(2)]
    for i, (port, route) in enumerate(zip(*ports)):
        name = f"n{n}{i}"
        config = f'listen: {address}:{port}\nserver_name: {name}\njetstream {{ store_dir: "{directory}/{name}" }}\n'
        if n > 1:
            routes = ", ".join(f"nats://{address}:{r}" for r in ports[1])
            config += f'cluster {{ name: c, listen: "{address}:{route}", routes: [{routes}] }}\n'
        with open(f"{directory}/{name}.conf", "w") as f:
            f.write(config)
        started.append(subprocess.Popen(["nats-server", "-c", f"{directory}/{name}.conf"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    for port in ports[0]:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection((address, port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
    return ",".join(f"nats://{address}:{port}" for port in ports[0])


def free_port(address):
    with socket.socket() as s:
        s.bind((address, 0))
        return s.getsockname()[1]


def scale(quick):
    """How far one process goes, at an eighth, a quarter, half and all of its size: benchmarks/scale.cpp."""
    sizes = {"subscribers": 10_000_000, "channels": 100_000, "herd": 10_000}
    return alternate(1 if quick else 3, {what: (lambda what=what: program(
        "scale", what, "--size", sizes[what] // (10 if quick else 1), "--core", CORES[0])) for what in sizes})


def journal(quick):
    """History that survives the process, beside none, SQLite and LMDB, and replays beside sendfile: benchmarks/journal*.cpp."""
    events = 100_000 if quick else 1_000_000
    here = program("journal", "--events", 1000)  # which peers there are
    ours = ["without", "none", "page_cache", "interval", "every_batch"]
    shapes = {"": (ours + ["sqlite", "lmdb"], "--events", events), " 64": (ours, "--events", events, "--publishers", 64),
              " singles": (ours, "--events", events // 100, "--pause", 50)}
    found = {}
    for shape, (names, *options) in shapes.items():
        found |= alternate(3 if quick else 7, {name + shape: (lambda name=name, options=options: program(
            "journal", *options, "--only", name)[name]) for name in names if name in here})
    return found | alternate(1, {"replay": lambda: program(
        "journal_replay", "--megabytes", 100 if quick else 1000, "--start-megabytes", 100)["replay"]})


def hot_path(quick):
    def one():
        found = program("hot_path", "--benchmark_format=json", f"--benchmark_min_time={0.05 if quick else 0.3}")
        return {b["name"]: b["cpu_time"] for b in found["benchmarks"]}
    if not (BIN / "bench_hot_path").exists():
        print("  skipped: Google Benchmark is missing")
        return {}
    return alternate(3, {"hot_path": one})


def compile_time(quick):
    """Seconds of the front end (-fsyntax-only) for one include, and lines after the preprocessor."""
    compiler = ["g++", "-std=c++20", "-x", "c++", f"-I{ROOT / 'include'}"]

    def one(header):
        with tempfile.NamedTemporaryFile("w", suffix=".cpp") as f:
            f.write(f"#include <{header}>\n")
            f.flush()
            began = time.monotonic()
            subprocess.run([*compiler, "-fsyntax-only", f.name], check=True, capture_output=True)
            seconds = time.monotonic() - began
            lines = subprocess.run([*compiler, "-E", f.name], check=True, capture_output=True).stdout.count(b"\n")
            return {"seconds": seconds, "lines": lines}

    headers = [h for h in ("sse/sse.hpp", "string", "asio.hpp", "simdjson.h", "fmt/format.h", "regex", "chrono", "sse/asio.hpp")
               if subprocess.run([*compiler, "-E", "-"], input=f"#include <{h}>\n", text=True, capture_output=True).returncode == 0]
    return alternate(3, {h: (lambda h=h: one(h)) for h in headers})


SCENARIOS = {f.__name__: f for f in (publish_latency, fanout, overload, connections_10k, latency, idle_memory, tls,
                                     stalled_readers, reconnect_storm, all_at_once, value_age, million_subscribers, scale, journal,
                                     cluster, hot_path, compile_time)}


# --- the performance table -------------------------------------------------------------------------------------------


class Row:
    """One goal beside what was measured. holds: True, False, or None where it was not measured."""

    def __init__(self, what, goal, ours="not measured", peers="", ratio="", holds=None):
        self.what, self.goal, self.ours, self.peers, self.ratio, self.holds = what, goal, ours, peers, ratio, holds

    def cells(self):
        verdict = {True: "holds", False: "does not hold", None: "–"}[self.holds]
        return [self.what, self.goal, self.ours, self.peers, self.ratio, verdict]


def us(n):
    return "none in time" if n < 0 else f"{n / 1000:.0f} ms" if n >= 10_000 else f"{n:.0f} µs"


def k(n):
    return f"{n / 1e6:.2f} M/s" if n >= 1e6 else f"{n / 1e3:.0f}k/s"


def size(n):
    return f"{n / 1e3:.1f} kB" if n >= 10_000 else f"{n:.0f} B"


class Reader:
    """The medians of one scenario; ratios are the median of each round's, since a machine's mood lasts longer than a round."""

    def __init__(self, results, scenario):
        cases = results.get(scenario, {}).get("cases", {})
        self.cases = {name: r["median"] for name, r in cases.items()}
        self.runs = {name: r["runs"] for name, r in cases.items()}

    def ratio(self, case, floor, field):
        return statistics.median(a[field] / b[field] for a, b in zip(self.runs[case], self.runs[floor]) if b[field])

    def ours(self, suffix=""):
        return [c.name + suffix for c in OURS if c.name + suffix in self.cases]

    def peers(self, value, names=(PLAIN_ASIO, HTTPLIB, NCHAN, BETTER_SSE), suffix=""):
        return ", ".join(f"{c.label} {value(self.cases[c.name + suffix])}" for c in names if c.name + suffix in self.cases)

    def each(self, value, suffix=""):
        return ", ".join(f"{LABELS[n.removesuffix(suffix)]} {value(self.cases[n])}" for n in self.ours(suffix))

    def over(self, floor, field, suffix=""):
        return {LABELS[n.removesuffix(suffix)]: self.ratio(n, floor, field) for n in self.ours(suffix)
                if self.cases.get(floor, {}).get(field)}


def times(ratios, of=""):
    return (", ".join(f"{name} {r:.2f}×" for name, r in ratios.items()) + f" {of}").strip() if ratios else "–"


def exact(m):
    return m["gaps"] == 0 and m["duplicates"] == 0 and m["bad_ids"] == 0 and m["missing"] == 0


def rows(results):
    out = []

    r = Reader(results, "fanout")
    row = Row("fan-out, 1,000 connections, one send per event",
              "0.95× raw; 1.3× plain Asio; io_uring 1.15× raw")
    if "raw" in r.cases and r.ours():
        rate = lambda m: k(m["rate"])
        ratio = r.over("raw", "rate")
        best = max((v for name, v in ratio.items() if name != IO_URING.label), default=0)
        plain = r.over("plain_asio", "rate")
        uring = ratio.get(IO_URING.label)
        row.ours, row.peers = r.each(rate), f"raw {rate(r.cases['raw'])}, " + r.peers(rate)
        row.ratio = f"{times(ratio, 'raw')}; {times(plain, 'plain Asio')}"
        row.holds = best >= 0.95 and max(plain.values(), default=9) >= 1.3 and (uring is None or uring >= 1.15)
    out.append(row)

    r = Reader(results, "overload")
    row = Row("overload, 1,000 connections × 5,000 events/s",
              "all in order, no gap; p99 2× raw coalesced; 0.9× its rate flat out; 30× plain Asio")
    if "raw_coalesced" in r.cases and r.ours():
        value = lambda m: f"{100 * m['share']:.0f} % p99 {us(m['p99_us'])}"
        flat = r.over("raw_coalesced flat out", "rate", " flat out")
        p99 = r.over("raw_coalesced", "p99_us")
        plain = r.over("plain_asio flat out", "rate", " flat out")
        row.ours, row.peers = r.each(value), f"raw coalesced {value(r.cases['raw_coalesced'])}, " + r.peers(value)
        row.ratio = f"p99 {times(p99, 'raw coalesced')}; flat out {times(flat)}, and {times(plain, 'plain Asio')}"
        complete = all(exact(r.cases[n]) and r.cases[n]["share"] > 0.9999 for n in r.ours())
        row.holds = (complete and min(p99.values()) <= 2 and max(flat.values(), default=0) >= 0.9 and
                     max(plain.values(), default=99) >= 30)
    out.append(row)

    r = Reader(results, "connections_10k")
    row = Row("10,000 connections, 400 events/s", "all delivered, p99 under 250 ms")
    if r.ours():
        value = lambda m: f"{100 * m['share']:.0f} % p99 {us(m['p99_us'])}"
        row.ours = r.each(value)
        row.peers = ", ".join(f"{LABELS[n]} {value(r.cases[n])}" for n in ("raw_coalesced", "plain_asio") if n in r.cases)
        row.ratio = f"p99 {times(r.over('raw_coalesced', 'p99_us'), 'raw coalesced')}"
        row.holds = all(exact(r.cases[n]) and r.cases[n]["share"] > 0.9999 and 0 < r.cases[n]["p99_us"] < 250_000
                        for n in r.ours())
    out.append(row)

    m = Reader(results, "publish_latency").cases.get("publish_latency")
    pair = lambda name: f"p50 {m[name]['p50_ns']:.0f} ns, p99 {m[name]['p99_ns']:.0f} ns"
    row = Row("publish on a hot thread, bytes ready", "p50 60 ns, p99 150 ns, the loop busy")
    if m:
        lane = m["try_publish"]
        row.ours = (f"{pair('try_publish')}; never waking {pair('try_publish_never')}; a loop that only polls "
                    f"{pair('try_publish_polled')}; idle-to-busy edge "
                    f"p50 {m['edge_try_publish']['p50_ns'] / 1e3:.1f} µs")
        row.peers = (f"a bare store that the other core sees {pair('bare_store')}; mutex + queue {pair('mutex_queue')}, "
                     f"edge p50 {m['edge_mutex_queue']['p50_ns'] / 1e3:.1f} µs; "
                     f"eventfd alone {m['edge_eventfd']['p50_ns'] / 1e3:.1f} µs")
        row.ratio = (f"p99 {lane['p99_ns'] / max(m['bare_store']['p99_ns'], 1):.2f}× the bare store, "
                     f"{m['mutex_queue']['p99_ns'] / max(lane['p99_ns'], 1):.0f}× shorter than mutex + queue")
        row.holds = lane["p50_ns"] <= 60 and lane["p99_ns"] <= 150
    out.append(row)

    row = Row("publish from values (`sse/fmt.hpp`)", "150 ns p50")
    if m:
        row.ours, row.peers = pair("try_format"), f"FMT_COMPILE alone {pair('format_to')}"
        row.ratio = f"{m['try_format']['p50_ns'] / max(m['format_to']['p50_ns'], 1):.2f}× {{fmt}} alone"
        row.holds = m["try_format"]["p50_ns"] <= 150
    out.append(row)

    r = Reader(results, "latency")
    row = Row("latency, publish to receive, p50", "1.15× raw; busy-poll 0.5× raw at one connection")
    if "raw 1" in r.cases and r.ours(" 1"):
        value = lambda m: us(m["p50_us"])
        row.ours = "; ".join(f"{n}: {r.each(value, s)}" for n, s in (("1", " 1"), ("100", " 100"), ("busy", " busy")))
        row.peers = ", ".join(f"raw {s} {value(r.cases[f'raw {s}'])}" for s in ("1", "100", "busy"))
        one, many = r.over("raw 1", "p50_us", " 1"), r.over("raw 100", "p50_us", " 100")
        busy = r.over("raw 1", "p50_us", " busy")
        row.ratio = f"1: {times(one)}; 100: {times(many)}; busy {times(busy, 'raw 1')}"
        row.holds = max(one.values()) <= 1.15 and max(many.values()) <= 1.15 and min(busy.values()) <= 0.5
    out.append(row)

    r = Reader(results, "idle_memory")
    million = Reader(results, "million_subscribers").cases.get("million")
    row = Row("idle connection, user memory", "core 128 B; 300 B in an epoll host; 1 kB on Asio")
    if r.ours():
        value = lambda m: size(m["bytes_each"])
        row.ours = (f"core {million['bytes_each']:.0f} B, " if million else "") + r.each(value)
        row.peers = (f"raw {value(r.cases['raw'])}, " if "raw" in r.cases else "") + r.peers(value)
        most = {"hub_epoll": 300, "epoll": 300, "io_uring": 300, "asio": 1000}
        row.holds = all(r.cases[n]["bytes_each"] <= most[n] for n in r.ours()) and (not million or million["bytes_each"] <= 128.5)
    out.append(row)

    r = Reader(results, "tls")
    row = Row("TLS: CPU of sending against bare `SSL_write`", "1.15×")
    costs = {name: m for name, m in r.cases.items() if name.startswith("cost ")}
    if costs:
        hosts = list(dict.fromkeys(h for m in costs.values() for h in m))
        row.ours = "; ".join(f"{LABELS[h]} " + ", ".join(f"{name[5:]} {m[h]['ns']:.0f} ns" for name, m in costs.items() if h in m)
                             for h in hosts)
        row.peers = ", ".join(f"{name[5:]} {next(iter(m.values()))['ssl_write_ns']:.0f} ns" for name, m in costs.items())
        row.ratio = "; ".join(f"{LABELS[h]} " + ", ".join(f"{m[h]['ratio']:.2f}×" for m in costs.values() if h in m) for h in hosts)
        row.holds = all(cost["ratio"] <= 1.15 for m in costs.values() for cost in m.values())
    out.append(row)

    row = Row("TLS: 1,000 connections × 30 events/s", "more events for the CPU than with nginx in front; 20 kB an idle session")
    here = [c for c in OURS_TLS if c.name in r.cases and f"{c.name} idle" in r.cases]
    if here:
        value = lambda c: f"{c.label} {k(r.cases[c.name]['per_cpu_second'])} of CPU, idle {size(r.cases[c.name + ' idle']['bytes_each'])}"
        row.ours = ", ".join(value(c) for c in here)
        row.holds = all(r.cases[f"{c.name} idle"]["bytes_each"] <= 20_000 for c in here)
        if NGINX_TLS.name in r.cases and f"{NGINX_TLS.name} idle" in r.cases:
            row.peers = value(NGINX_TLS)
            ratios = {c.label: r.ratio(c.name, NGINX_TLS.name, "per_cpu_second") for c in here}
            row.ratio = times(ratios, "nginx in front")
            row.holds = row.holds and min(ratios.values()) > 1
    out.append(row)

    r = Reader(results, "stalled_readers")
    row = Row("a tenth of the readers stalled", "the rest keep 0.95× throughput, no gap, memory under its cap")
    pairs = [(c, r.cases[f"{c.name} all read"], r.cases[f"{c.name} 100 stalled"]) for c in OURS
             if f"{c.name} all read" in r.cases and f"{c.name} 100 stalled" in r.cases]
    if pairs:
        row.ours = ", ".join(f"{c.label} {k(b['rate'])}, peak {b.get('peak_kb', 0) / 1e3:.0f} MB" for c, _, b in pairs)
        row.peers = "without stalled ones: " + ", ".join(f"{c.label} {k(a['rate'])}, peak {a.get('peak_kb', 0) / 1e3:.0f} MB"
                                                         for c, a, _ in pairs)
        ratios = {c: r.ratio(f"{c.name} 100 stalled", f"{c.name} all read", "rate") for c, _, _ in pairs}
        row.ratio = times({c.label: ratio for c, ratio in ratios.items()})
        row.holds = all(exact(b) and b["share"] > 0.9999 and ratios[c] >= 0.95 for c, _, b in pairs)
    out.append(row)

    r = Reader(results, "reconnect_storm")
    storm = Reader(results, "all_at_once")
    row = Row("reconnects, 100/s with resume under load", "no gap, no duplicate")
    if r.ours():
        value = lambda m: f"{m['reconnects']:.0f} reconnects, {m['missing']:.0f} missing, {m['duplicates']:.0f} twice"
        row.ours = r.each(value)
        if storm.ours():
            row.ours += "; with 10,000 connections, 1,000 stalled: " + storm.each(value)
        row.peers = f"raw {value(r.cases['raw'])}" if "raw" in r.cases else ""
        row.holds = all(exact(x.cases[n]) and x.cases[n]["gap_events"] == 0 and x.cases[n]["ended"] == x.cases[n]["readers"]
                        for x in (r, storm) for n in x.ours())
    out.append(row)

    row = Row("prices on a line of 20 kB/s, 500 symbols × 100 a second", "p99 age at most 1.2 passes, no gap")
    r = Reader(results, "value_age")
    if r.cases:
        age = lambda mode: f"p99 {r.cases[mode]['p99_ms']:.0f} ms"
        row.ours = f"conflated {age('conflated')}, keys chosen {age('chosen')}, and with max_bytes {age('paced')}"
        row.peers = f"without keys {age('plain')}, and {r.cases['plain']['gaps']:.0f} gaps" if "plain" in r.cases else ""
        row.ratio = times({m: r.cases[m]["p99_ms"] / r.cases[m]["pass_ms"] for m in ("conflated", "chosen", "paced")}, "a pass")
        row.holds = all(r.cases[m]["p99_ms"] <= 1.2 * r.cases[m]["pass_ms"] and r.cases[m]["gaps"] == 0
                        for m in ("conflated", "chosen", "paced"))
    out.append(row)

    row = Row("scale in one process", "1,000,000 subscribers, 300 MB, a publish + flush measured")
    if million:
        row.ours = (f"{million['memory_mb']:.0f} MB, publish + flush to all {million['flush_ms']:.0f} ms "
                    f"({million['ns_each']:.0f} ns each); to ten readers beside them {million['quiet_flush_us']:.1f} µs")
        row.holds = million["memory_mb"] <= 300
    out.append(row)

    r = Reader(results, "scale")
    for what, name, goal, memory in (
            ("subscribers", "10,000,000 subscribers of a channel", "1.4 GB; flat per doubling", 1400),
            ("channels", "100,000 channels × 10 readers", "flat per doubling", None),
            ("herd", "10,000 come back to 1,000 events each", "flat per doubling, no long turn", None)):
        row = Row(f"scale: {name}", goal)
        m = r.cases.get(what)
        if m:
            done = {"subscribers": "publish + flush to all", "channels": "an event on all, flushed", "herd": "all have all"}[what]
            row.ours = (f"{m['memory_mb']:.0f} MB, open in {m['join_s']:.2f} s, {done} in {m['work_ms']:.0f} ms" +
                        (f", longest call {m['turn_ms']:.1f} ms" if what == "herd" else ""))
            row.ratio = (f"per doubling: memory {m['memory_growth']:.2f}×, opening {m['join_growth']:.2f}×, "
                         f"{done.split(',')[0]} {m['work_growth']:.2f}×")
            row.holds = m["work_growth"] <= 2.5 and (memory is None or m["memory_mb"] <= memory)
        out.append(row)

    r = Reader(results, "cluster")
    for place in ("1 server", "3 servers"):
        row = Row(f"many nodes, NATS JetStream on {place}", "0.9× the rate of bare cnats, 1.15× its latency; 10,000 old ids: 100 reads")
        if f"rate 1, {place}" in r.cases:
            rate = lambda mode: ", ".join(f"{n} {'node' if n == 1 else 'nodes'} {k(r.cases[f'{mode} {n}, {place}']['rate'])}" for n in (1, 3))
            late = lambda mode: "p50 {p50_us:.0f} µs, p99 {p99_us:.0f} µs".format(**r.cases[f"{mode}, {place}"])
            behind = lambda mode: k(r.cases[f"{mode}, {place}"]["rate"])
            row.ours = f"{rate('rate')}; {late('latency')}; catch-up {behind('catch_up')}; herd: {r.cases['herd']['reads']:.0f} reads"
            row.peers = f"bare cnats {rate('bare_rate')}; {late('bare_latency')}; catch-up {behind('bare_catch_up')}"
            rates = {f"{n} node{'s' * (n > 1)}": r.ratio(f"rate {n}, {place}", f"bare_rate {n}, {place}", "rate") for n in (1, 3)}
            p50 = r.ratio(f"latency, {place}", f"bare_latency, {place}", "p50_us")
            row.ratio = f"{times(rates)}; p50 {p50:.2f}×"
            row.holds = min(rates.values()) >= 0.9 and p50 <= 1.15 and r.cases["herd"]["reads"] <= 100
        out.append(row)
    r = Reader(results, "journal")
    row = Row("a journal: CPU of an append, `page_cache`", "1.5× a sequencer without one")
    shapes = {"one publisher": "", "64": " 64", "events one by one": " singles"}
    shapes = {name: s for name, s in shapes.items() if f"page_cache{s}" in r.cases and f"without{s}" in r.cases}
    if shapes:
        value = lambda case: "; ".join(f"{name} {r.cases[case + s]['append_cpu_ns']:.0f} ns" for name, s in shapes.items())
        row.ours, row.peers = value("page_cache"), "without " + value("without")
        ratios = {name: r.ratio("page_cache" + s, "without" + s, "append_cpu_ns") for name, s in shapes.items()}
        row.ratio, row.holds = times(ratios), max(ratios.values()) <= 1.5
    out.append(row)

    row = Row("a journal beside stores: append, read", "5× SQLite and LMDB, or the fastest of them")
    peers = [n for n in ("sqlite", "lmdb") if n in r.cases]
    if "page_cache" in r.cases and peers:
        value = lambda n: f"{r.cases[n]['append_ns']:.0f} ns, {r.cases[n]['read_ns']:.0f} ns"
        row.ours, row.peers = value("page_cache"), ", ".join(f"{n} {value(n)}" for n in peers)
        ratios = {f"{n} {what}": r.ratio(n, "page_cache", f"{what}_ns") for n in peers for what in ("append", "read")}
        row.ratio, row.holds = times(ratios), min(ratios.values()) >= 1
    out.append(row)

    row = Row("a journal: replay of 1 GB to a socket", "0.9× `sendfile`")
    if "replay" in r.cases:
        m = r.cases["replay"]
        row.ours = f"{m['journal_s']:.2f} s"
        row.peers = f"`sendfile` {m['sendfile_s']:.2f} s, read and send {m['read_and_send_s']:.2f} s"
        row.ratio, row.holds = f"{m['to_sendfile']:.2f}×", m["to_sendfile"] >= 0.9
    out.append(row)

    r = Reader(results, "compile_time")
    row = Row("compile time", "`<sse/sse.hpp>` 0.6 s, 45k preprocessed lines")
    if "sse/sse.hpp" in r.cases:
        value = lambda h: f"{h} {r.cases[h]['seconds']:.2f} s"
        core = r.cases["sse/sse.hpp"]
        row.ours = f"{core['seconds']:.2f} s, {core['lines'] / 1000:.0f}k lines"
        row.peers = ", ".join(value(h) for h in r.cases if not h.startswith("sse/"))
        row.holds = core["seconds"] <= 0.6 and core["lines"] <= 45_000
    out.append(row)
    return out
