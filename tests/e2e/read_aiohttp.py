#!/usr/bin/env python3
"""tail reads a stream of Python's aiohttp, in chunks, through cut connections and a restart, without loss.

needs: python:aiohttp
"""
import asyncio
import subprocess
import sys

from aiohttp import web

import _client as client

COUNT = 2000


def serve(port):
    async def stream(request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        try:
            await response.prepare(request)
            await response.write(b"retry: 10\r\n\r\n")
            for n in range(int(request.headers.get("Last-Event-ID", 0)) + 1, COUNT + 1):
                await response.write(f"id: {n}\r\ndata: {'x' * (n % 60)}\r\ndata: {n}\r\n\r\n".encode())
        except ConnectionError:
            pass  # cut
        return response

    async def main():
        app = web.Application()
        app.router.add_get("/events", stream)
        app.router.add_get("/", lambda _: web.HTTPFound("/events"))
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
        await site.start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())


def start(port=0):
    child = client.spawn(sys.executable, __file__, "serve", str(port), stdout=subprocess.PIPE)
    return child, int(child.stdout.readline())


def check_events(events):
    client.equal([(e["type"], e["lastEventId"]) for e in events],
                 [("message", str(n)) for n in range(1, COUNT + 1)], "ids")
    client.check(all(e["data"] == "x" * (n % 60) + f"\n{n}" for n, e in enumerate(events, 1)), "data")


def main():
    server, port = start()
    events, cuts = client.read_through_cuts(port, "/", COUNT, 6000, 1)  # / redirects
    check_events(events)
    client.check(cuts > 20, f"only {cuts} cuts")
    print(f"ok: {COUNT} events over {cuts} cuts")

    cutter = client.Cutter(port, 20000, 2)
    tail = client.Tail(f"http://127.0.0.1:{cutter.port}/events", "--json", "--count", str(COUNT), "--retry", "10")
    tail.until("100 events", lambda: len(tail.out) > 100)
    server.kill()
    server.wait()
    start(port)
    client.equal(tail.end(), 0, "tail's exit code")
    check_events(tail.events())
    print("ok: over a killed server")


if sys.argv[1:2] == ["serve"]:
    serve(int(sys.argv[2]))
else:
    main()
