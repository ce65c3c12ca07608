#!/usr/bin/env python3
"""--tls-cert and --tls-key of every server: https, a page and a stream, another certificate on SIGHUP, what cannot be.

needs: python3 openssl
"""
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


def make(folder, name):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt", "-days", "2", "-subj", f"/CN={name}",
                    "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)


def put(folder, name):
    for end in ("crt", "key"):
        shutil.copyfile(folder / f"{name}.{end}", folder / f"now.{end}")


def connect(port, certificate):
    context = ssl.create_default_context(cafile=certificate)
    return http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=20)


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


def check_refused(folder):
    ran = subprocess.run([PROGRAMS / "chat", "--port", "0", "--tls-cert", folder / "none", "--tls-key", folder / "none"],
                         capture_output=True, text=True, timeout=20, check=False)
    assert ran.returncode == 2 and "No such file or directory" in ran.stderr, ran


def main():
    with tempfile.TemporaryDirectory() as d:
        folder = Path(d)
        make(folder, "first")
        make(folder, "second")
        if not sys.argv[1:]:
            check_refused(folder)
        for name in sys.argv[1:] or STREAMS:
            check_program(name, folder)
            print("ok", name)
    return 0


sys.exit(main())
