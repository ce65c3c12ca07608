"""Runs servers beside load generators, contender after contender, round after round, and takes medians."""
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
BIN = BUILD / "bin"
NODE = BUILD / "node" / "node_modules"
RESULTS = BUILD / "results"
SERVERS = ROOT / "benchmarks" / "servers"
CORES = (0, 1) if (os.cpu_count() or 1) > 1 else (-1, -1)  # server and load generator

failures = []


def say(text, end="\n"):
    print(text, end=end, flush=True)


class Contender:
    """One server under test: a name, what it is, how it is started."""

    def __init__(self, name, label, ours=False, command=None, needs=None, arguments=()):
        self.name, self.label, self.ours = name, label, ours
        plain = [str(BIN / f"bench_server_{name}"), *arguments]
        self.command = command if callable(command) else lambda: command or plain
        self.needs = needs or (lambda: Path(self.command()[0]).exists() or "was not built: its library is missing")

    def missing(self):
        state = self.needs()
        return None if state is True else state


def has_nchan():
    module = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
    return (shutil.which("nginx") and module.exists()) and True or "nginx or libnginx-mod-nchan is missing"


def has_better_sse():
    return (shutil.which("node") and (NODE / "better-sse").is_dir()) and True or "node or its package better-sse is missing"


def certificate():
    """For the servers with TLS; their options."""
    pair = {"--certificate": BUILD / "tls" / "chain.pem", "--key": BUILD / "tls" / "key.pem"}
    if shutil.which("openssl") and BUILD.is_dir() and not all(p.exists() for p in pair.values()):
        (BUILD / "tls").mkdir(exist_ok=True)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650",
                        "-subj", "/CN=localhost", "-keyout", str(pair["--key"]), "-out", str(pair["--certificate"])],
                       check=True, capture_output=True)
    return [str(word) for option in pair.items() for word in option]


def has_tls(program):
    if not shutil.which("openssl"):
        return "the command openssl is missing"
    return (BIN / program).exists() or f"{program} was not built: OpenSSL or its library is missing"


def pinned(command):
    return ["taskset", "-c", str(CORES[0]), *command] if CORES[0] >= 0 else command


RAW = Contender("raw", "raw")
RAW_COALESCED = Contender("raw_coalesced", "raw coalesced", command=[str(BIN / "bench_server_raw"), "--coalesce"])
HUB = Contender("hub_epoll", "core on bare epoll", ours=True)
EPOLL = Contender("epoll", "epoll host", ours=True)
IO_URING = Contender("io_uring", "io_uring host", ours=True)
ASIO = Contender("asio", "Asio host", ours=True)
PLAIN_ASIO = Contender("plain_asio", "plain Asio")
HTTPLIB = Contender("httplib", "cpp-httplib")
NCHAN = Contender("nchan", "nginx + nchan", command=[sys.executable, str(SERVERS / "nchan.py")], needs=has_nchan)
BETTER_SSE = Contender("better_sse", "better-sse (Node)", command=pinned(["node", str(SERVERS / "better_sse.mjs")]),
                       needs=has_better_sse)
OURS = [HUB, EPOLL, IO_URING, ASIO]


def with_tls(name, label):
    program = f"bench_server_{name}_tls"
    return Contender(f"{name}_tls", f"{label}, TLS", ours=True, command=lambda: [str(BIN / program), *certificate()],
                     needs=lambda: has_tls(program))


OURS_TLS = [with_tls("epoll", "epoll host"), with_tls("io_uring", "io_uring host"), with_tls("asio", "Asio host")]
NGINX_TLS = Contender(
    "nginx_tls", "nginx with TLS in front of the epoll host",
    command=lambda: [sys.executable, str(SERVERS / "nginx_tls.py"), "--behind", str(BIN / "bench_server_epoll"), *certificate()],
    needs=lambda: has_tls("bench_server_epoll") if shutil.which("nginx") else "nginx is missing")


def present(contenders, skipped=set()):
    """Those that can run; says once which cannot."""
    found = []
    for c in contenders:
        why = c.missing()
        if why is None:
            found.append(c)
        elif c.name not in skipped:
            skipped.add(c.name)
            say(f"  skipped: {c.label}: {why}")
    return found


def allow_many_files():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def stop(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def start_server(contender, **options):
    arguments = []
    for name, value in {"core": CORES[0], "publisher_core": CORES[1], **options}.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            arguments.append(flag)
        elif value is not None and value is not False:
            arguments += [flag, str(value)]
    server = subprocess.Popen([*contender.command(), *arguments], stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "NODE_PATH": str(NODE)})
    port = server.stdout.readline().strip()
    if not port:
        stop(server)
        raise RuntimeError(f"{contender.label} did not start")
    return server, port


def window(contender):
    """cpp-httplib lets five connections wait to be accepted; what comes above that is lost for seconds."""
    return ["--window", "4"] if contender is HTTPLIB else []


def serve(contender, load=(), seconds=2.0, connections=1000, grace=2.0, **options):
    """One server, one load generator: what both report, in one dict."""
    server, port = start_server(contender, connections=connections, seconds=seconds, **options)
    try:
        command = [str(BIN / "bench_load"), port, "--connections", str(connections), "--seconds", str(seconds), "--grace",
                   str(grace), "--core", str(CORES[1]), *window(contender), *map(str, load)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + grace + 75)
        if done.returncode != 0:
            raise RuntimeError(f"load generator: {done.stderr.strip()}")
        result = json.loads(done.stdout)
        try:
            tail, _ = server.communicate(timeout=20)
            report = json.loads(tail.strip().splitlines()[-1])
        except (subprocess.TimeoutExpired, ValueError, IndexError):
            report = {}  # it is still busy with what nobody waits for any more
        result.update(report)
        cpu = report.get("user_s", 0) + report.get("system_s", 0)
        result["per_cpu_second"] = result["delivered"] / cpu if cpu else 0
        published = report.get("published", 0)
        result["share"] = result["delivered"] / (published * result["readers"]) if published else 0
        return result
    finally:
        stop(server)


def program(name, *arguments):
    done = subprocess.run([str(BIN / f"bench_{name}"), *map(str, arguments)], capture_output=True, text=True, timeout=280)
    if done.returncode != 0:
        raise RuntimeError(f"bench_{name}: {done.stderr.strip() or done.returncode}")
    return json.loads(done.stdout)


def median(runs):
    """Field by field."""
    out = {}
    for key in runs[0]:
        values = [r.get(key) for r in runs]
        if isinstance(values[0], dict):
            out[key] = median(values)
        elif all(isinstance(v, (int, float)) for v in values):
            out[key] = statistics.median(values)
    return out


def alternate(rounds, cases):
    """cases: {name: function}. A B C B C A ...; {name: {"runs": [...], "median": {...}}}. A case that fails is left out.
    Each round begins with the next case: what a case leaves behind it must not always meet the same one."""
    results = {name: {"runs": []} for name in cases}
    for number in range(rounds):
        first = number % max(len(cases), 1)
        for name, run in [*list(cases.items())[first:], *list(cases.items())[:first]]:
            if results[name].get("failed"):
                continue
            began = time.monotonic()
            try:
                one = run()
            except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as e:
                results[name]["failed"] = str(e)
                failures.append(f"{name}: {e}")
                say(f"  FAILED {name}: {e}")
                continue
            results[name]["runs"].append(one)
            say(f"  {number + 1}/{rounds} {name}: {brief(one)} ({time.monotonic() - began:.1f} s)")
    return {name: {**r, "median": median(r["runs"])} for name, r in results.items() if r["runs"]}


def brief(one):
    if "rate" in one and "share" in one:
        wrong = "".join(f", {one[k]} {k}" for k in ("gaps", "duplicates", "bad_ids", "lost") if one.get(k))
        p99 = one["p99_us"]
        return f"{one['rate'] / 1e3:.0f}k/s, {100 * one['share']:.0f} %, p50 {one['p50_us']:.0f} us, p99 {p99:.0f} us{wrong}"
    return ", ".join(f"{k} {v:.4g}" for k, v in list(one.items())[:6] if isinstance(v, (int, float)))


def busy_cores():
    """How many cores others keep busy now: of one second, while this process sleeps."""
    def busy():
        return sum(int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:4])  # user, nice, system

    before = busy()
    time.sleep(1)
    return (busy() - before) / os.sysconf("SC_CLK_TCK")


def machine():
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    compiler = subprocess.run(["c++", "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    kernel = os.uname()
    return {"cpu": model, "cores": os.cpu_count(), "kernel": f"{kernel.sysname} {kernel.release.split('-')[0]}",
            "compiler": compiler, "busy_before": busy_cores()}
