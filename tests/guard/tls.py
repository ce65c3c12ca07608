#!/usr/bin/env python3
"""What a hub adds to SSL_write where an event is small: instructions per event and session, of all that a turn does, for each
of SSL_write with the same bytes.

needs: python3 valgrind
"""
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = os.path.join(os.environ.get("PROGRAMS", "build/dev/bin"), "guard_tls")
MOST = 1.15


def counted(what):
    """Instructions a record, and its length."""
    with tempfile.TemporaryDirectory() as d:
        run = subprocess.run(["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={d}/out", PROGRAM, what],
                             capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit(f"FAILED: {PROGRAM} {what}: {run.stderr[-2000:]}")
        said = json.loads(run.stdout)
        total = int(re.findall(r"^totals: (\d+)", Path(f"{d}/out").read_text(), re.MULTILINE)[-1])
    if total == 0:
        sys.exit("FAILED: nothing was counted: the guard was built without valgrind/callgrind.h (package valgrind)")
    return total / said["records"], said["bytes"]


def main():
    bare, size = counted("bare")
    print(f"SSL_write of a record of {size} bytes: {bare:.0f} instructions")
    bad = []
    for host in ("epoll", "asio"):
        each, same = counted(host)
        print(f"{host}: {each:.0f}, {each / bare:.3f} times as many")
        if same != size:
            bad.append(f"{host}: an event was {same} bytes on the wire, {size} by SSL_write alone")
        if each > MOST * bare:
            bad.append(f"{host}: {each / bare:.3f} times SSL_write, bound {MOST}; where: session::write in openssl.hpp, "
                       "the host's transport, engine::flush")
    if bad:
        sys.exit("\n  ".join(["FAILED", *bad]))
    print("ok")


main()
