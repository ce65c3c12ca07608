#!/usr/bin/env python3
"""--tls-cert and --tls-key of every server: https, a page and a stream, another certificate on SIGHUP, what cannot be.
Those of one file have a stream, with and without TLS, and no SIGHUP.

needs: python3 openssl
"""
import contextlib
import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAMS = Path(os.environ["PROGRAMS"])
STREAMS = {"gateway": "/api/stream", "logs": "/api/logs/stream", "chat": "/events",
           "notifications": "/system/status/stream", "completions": None}
OF_ONE_FILE = [name for name in ("hello", "sharded", "epoll_engine", "beast") if (PROGRAMS / name).exists()]


def make(folder, name):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt", "-days", "2", "-subj", f"/CN={name}",
                    "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)


def put(folder, name):
    for end in ("crt", "key"):
        shutil.copyfile(folder / f"{name}.{end}", folder / f"now.{end}")


def connect(port, certificate):
    if certificate is None:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    context = ssl.create_default_context(cafile=certificate)
    return http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)


def answer(port, certificate, path):
    connection = connect(port, certificate)
    connection.request("GET", path)
    return connection.getresponse()


def check_program(name, folder):
    put(folder, "first")
    flags = [PROGRAMS / name, "--port", "0", "--tls-cert", folder / "now.crt", "--tls-key", folder / "now.key"]
    if name == "logs":
        flags += ["--data", folder]
    child = subprocess.Popen(flags, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
    try:
        line = child.stdout.readline()
        assert line.startswith("listening on https://127.0.0.1:"), line
        port = int(line.rsplit(":", 1)[1].strip("/\n"))
        assert answer(port, folder / "first.crt", "/health").status == 200
        if STREAMS[name] is not None:
            stream = answer(port, folder / "first.crt", STREAMS[name])
            assert stream.status == 200 and stream.headers["Content-Type"].startswith("text/event-stream")
            assert stream.readline()
        with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert b" 400 " in plain.recv(4096)
        put(folder, "second")
        child.send_signal(signal.SIGHUP)
        for line in child.stderr:
            if "the certificate was read again" in line:
                break
        assert answer(port, folder / "second.crt", "/health").status == 200
    finally:
        child.send_signal(signal.SIGTERM)
        _, rest = child.communicate(timeout=30)
    assert child.returncode == 0, rest


def check_one_file(name, folder, certificate):
    flags = ["--tls-cert", certificate, "--tls-key", certificate.with_suffix(".key")] if certificate else []
    child = subprocess.Popen([PROGRAMS / name, "--port", "0", *flags], stdout=subprocess.PIPE, text=True)
    try:
        line = child.stdout.readline()
        assert line.startswith(f"listening on http{'s' if certificate else ''}://127.0.0.1:"), f"{name}: {line}"
        port = int(line.rsplit(":", 1)[1].strip("/\n"))
        stream = answer(port, certificate, "/events")
        assert stream.status == 200 and stream.headers["Content-Type"].startswith("text/event-stream"), name
        while not stream.readline().startswith(b"data: "):
            assert not stream.closed, f"{name}: no event came"
        refused = answer(port, certificate, "/none")
        assert refused.status == 404 and refused.read(), f"{name}: {refused.status}"
        if certificate:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as plain:
                plain.sendall(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                with contextlib.suppress(ConnectionResetError):
                    assert b" 200 " not in plain.recv(4096), f"{name} answers without TLS"
    finally:
        child.kill()
        child.communicate(timeout=60)


def check_refused(name, folder):
    ran = subprocess.run([PROGRAMS / name, "--port", "0", "--tls-cert", folder / "none", "--tls-key", folder / "none"],
                         capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2 and "No such file or directory" in ran.stderr, ran


def main():
    with tempfile.TemporaryDirectory() as d:
        folder = Path(d)
        make(folder, "first")
        make(folder, "second")
        if not sys.argv[1:]:
            for name in ("chat", *OF_ONE_FILE):
                check_refused(name, folder)
        for name in sys.argv[1:] or [*STREAMS, *OF_ONE_FILE]:
            if name in STREAMS:
                check_program(name, folder)
            else:
                check_one_file(name, folder, None)
                check_one_file(name, folder, folder / "first.crt")
            print("ok", name)
    return 0


sys.exit(main())
