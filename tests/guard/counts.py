#!/usr/bin/env python3
"""Counts, so that no slow machine and no busy one can change the verdict: instructions, allocations, writes, lines, bytes.

needs: python3 valgrind

Each figure has a bound in bounds.json. Instructions are those of g++ 12 -O2 with 10 % of slack; another version of the
compiler may need other bounds: see `usage` below for how to store them.

usage: counts.py [--store]      --store: write the bounds anew, from what is counted now
"""
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
BOUNDS = HERE / "bounds.json"
INCLUDE = HERE.parent.parent / "include"
PROGRAM = os.path.join(os.environ.get("PROGRAMS", "build/dev/bin"), "guard")
SLACK = 1.10
BASELINE = "glibc.cpu.hwcaps=-AVX2,-AVX2_Usable,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM"
FEW, MANY = 1000, int(os.environ.get("GUARD_CHANNELS", "100000"))  # channels


def plain(scenario, *numbers):
    out = subprocess.run([PROGRAM, scenario, *map(str, numbers)], capture_output=True, text=True, check=True).stdout
    return json.loads(out)


def instructions(scenario, *numbers, options=()):
    """How many a run executes, and the functions that execute most."""
    with tempfile.TemporaryDirectory() as d:
        file = f"{d}/out"
        subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={file}", *options, PROGRAM, scenario,
                        *map(str, numbers)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True)
        total = int(re.findall(r"^totals: (\d+)", Path(file).read_text(), re.MULTILINE)[-1])
        table = subprocess.run(["callgrind_annotate", file], capture_output=True, text=True).stdout
    top = [line.strip()[:150] for line in table.splitlines() if re.match(r"\s*[\d,]+ +\(.*\?\?\?|.*\.[hc]pp:", line)]
    return total, top[:6]


def counted(scenario, *numbers):
    """The same of what shapes.cpp marks, once its set-up is done; with the memcpy of any x86-64."""
    os.environ["GLIBC_TUNABLES"] = BASELINE
    try:
        total, top = instructions(scenario, *numbers, options=["--instr-atstart=no"])
    finally:
        del os.environ["GLIBC_TUNABLES"]
    if total == 0:
        sys.exit("FAILED: nothing was counted: the guard was built without valgrind/callgrind.h (package valgrind)")
    return total, top


def per(scenario, events, subscribers, of, quiet=0):
    """Instructions of `events` more events, for each `of`: what comes before them is counted in both runs."""
    short, _ = instructions(scenario, events, subscribers, quiet)
    long, top = instructions(scenario, 2 * events, subscribers, quiet)
    return (long - short) / of, top


def against_memchr(line, piece):
    """Instructions of the parser for each of a memchr loop over the same stream. The first pass, in which buffers grow, is
    counted in both runs. memchr and memcpy are those for any x86-64, as the parser is compiled: what the machine that
    counts could do with AVX2 must not matter, and valgrind counts each byte of a `rep movsb`."""
    os.environ["GLIBC_TUNABLES"] = BASELINE
    try:
        parser, top = per("parse", 2, line, 2, piece)
        loop, _ = per("memchr", 2, line, 2, piece)
    finally:
        del os.environ["GLIBC_TUNABLES"]
    return parser / loop, top


def ratio(scenario, events, few, many, quiet=0):
    """How many times as dear `events` more of a step are where the world is larger."""
    os.environ["GLIBC_TUNABLES"] = BASELINE  # else an array that grows counts each byte of a `rep movsb`
    try:
        (small, _), (large, top) = (per(scenario, events, n, events, quiet) for n in (few, many))
    finally:
        del os.environ["GLIBC_TUNABLES"]
    return large / small, top


def preprocessed_lines():
    compiler = os.environ.get("GUARD_CXX", "g++")
    text = subprocess.run([compiler, "-std=c++20", "-E", "-x", "c++", "-", "-I", str(INCLUDE)],
                          input="#include <sse/sse.hpp>\n", capture_output=True, text=True, check=True).stdout
    return text.count("\n")


def backlogs(add):
    """What waits for one session leaves in as few writes as its bytes ask for, and at little more than their copying."""
    kinds = {"several channels": "channels", "every 2nd event transient": "transient", "every 2nd for somebody else": "other",
             "every 2nd for this user": "mine", "unicast": "unicast", "a snapshot": "snapshot", "chunked": "chunked"}
    where = "gather_merged, batch::lay_out, chunks::frame: detail/engine/flush.hpp, batch.hpp, chunks.hpp"
    for name, kind in kinds.items():
        events = 10_000 if kind == "snapshot" else 14_000
        many = plain("backlog", kind, events, 16, 1)
        add(f"writes per 256 KiB of a backlog: {name}", many["writes"] / math.ceil(many["bytes"] / (256 << 10)), where)
        one = plain("backlog", kind, events, 1, 1)
        add(f"writes per 16 KiB of a backlog, one buffer each (TLS): {name}", (one["writes"] - 1) / (one["bytes"] / (16 << 10)), where)
    for name, kind in kinds.items():
        if kind in ("unicast", "snapshot"):  # those are on no 16 channels
            continue
        whole, top = counted("backlog", kind, 320, 16, 5)
        copying, _ = counted("copy-backlog", kind, 320, 16, 5)  # the same bytes, as many pieces
        add(f"instructions per event of a backlog of 320 on 16 channels, without the copying: {name}", (whole - copying) / 320 / 5,
            where, top)


def memory(add):
    for keep in (0, 10, 1000):
        cases = [plain("channel", keep, events, mix) for events in (1000, 20_000) for mix in ("plain", "mixed")]
        add(f"bytes of a channel beyond 1.5 times what it retains, keep = {keep}",
            max(0, *(c["bytes"] - 1.5 * c["retained"] for c in cases)), "segment sizes, the tail's use: detail/log/")
    add("bytes of an empty channel", plain("channels", 10_000, 0)["empty"], "struct channel, stream, event_log, name_table")
    add("bytes of a channel with a reader and an event, of 100,000", plain("channels", MANY, 1)["bytes"], "as above; first segment")
    add("bytes that a session holds of 20,000 events for somebody else, of 10,000", plain("unseen", 20_000, 10_000)["each"],
        "engine::sweep, pass_hidden: detail/engine/lag.hpp")
    done = plain("completes", 10_000)
    add("bytes per idle session of a transport that completes", done["idle"], "detail/engine/parts.hpp")
    add("bytes per such session after a burst in which all had a write in flight", done["after"],
        "struct flight, engine::end_flight: detail/engine/batch.hpp, sessions.hpp")


def audiences(add):
    where = "announce, serve_user, audience_index, next_visible: detail/engine/publish.hpp, visibility.hpp, detail/log/"
    many, top = counted("user", "many", 100, 10_000)
    own, _ = counted("user", "own", 100, 10_000)
    add("times the instructions of an event for one user: among 10,000 sessions instead of on a channel of its own", many / own,
        where, top)
    after, top = counted("hidden", 1000, 1000)
    without, _ = counted("hidden", 0, 1000)
    add("instructions per session and hidden event, of the next one for all: after 1,000 for somebody else",
        (after - without) / 1000 / 1000, where, top)
    total, top = counted("resume", "rule", 100_000, 1)
    add("instructions per hidden entry of a resume through 100,000", total / 100_000, where, top)
    add("calls of on_sees in one flush: 1,000 resumes through 100,000 hidden entries", plain("resume", "hook", 100_000, 1000)["asked"],
        "engine::asks_per_turn, bytes_per_ask: detail/engine/flush.hpp")


def keys(add):
    where = "engine::put_newest: detail/engine/publish.hpp; newest_by_key::store: detail/log/newest_by_key.hpp"
    without, _ = counted("keyed", 10_000, 0)
    with_one, top = counted("keyed", 10_000, 500)
    add("times the instructions of a publish: with a key, of 500", with_one / without, where, top)
    add("bytes more asked for 10,000 publishes with a key than without", plain("keyed", 10_000, 500)["asked"] -
        plain("keyed", 10_000, 0)["asked"], where)
    few, _ = counted("one-of-many", 100)
    many, top = counted("one-of-many", 10_000)
    add("times the instructions of a pass over two values that changed: of 10,000 instead of 100", many / few,
        "newest_by_key::changed; engine::take_values: detail/engine/passes.hpp", top)


def chosen_keys(add):
    where = "engine::wake_watchers: detail/engine/selection.hpp; take_selected: passes.hpp; key_watchers: detail/log/"
    few, _ = counted("chosen", 1000, 2, 10)
    many, top = counted("chosen", 1000, 500, 2000)
    add("times the instructions of an event for one that chose its key: beside 499 that chose 2,000 others, instead of one",
        many / few, where, top)
    log, _ = counted("user", "own", 1000, 2)
    add("times the instructions of an event for one user: by a chosen key", few / log, where, top)


def turns(add):
    storm = plain("storm", 10_000, 100)
    add("live readers that had to wait for a second flush, beside 10,000 resumes of 655 kB", storm["late"],
        "engine::flush serves the live ones first: detail/engine/flush.hpp")
    add("bytes to those who catch up in one flush, of its budget and one share", storm["most"] / ((4 << 20) + (256 << 10)),
        "hub_options::flush_budget: engine::flush")
    add("writes per flush to one session on 16 channels, events and transient ones", plain("sixteen")["writes"] / 10,
        "engine::serve_dirty, hand_out_to_readers")
    for what, name in (("leave", "leave of one of n sessions of a user"), ("evict-total", "accept at the cap in all"),
                       ("evict-address", "accept at the cap of an address")):
        (few, _), (many, top) = (counted(what, n) for n in (1000, 8000))
        add(f"times the instructions with 8,000 sessions instead of 1,000: {name}", many / few, "caps, presence: detail/engine/", top)
    (few, _), (many, top) = (counted("shed", n) for n in (10, 8000))
    add("times the instructions with 8,000 channels instead of 10: an event over max_backlog", many / few, "engine::shed_backlog", top)
    before, _ = counted("once", "nothing")
    for what, name in (("transient", "a transient event"), ("beat", "a fixed heartbeat")):
        after, top = counted("once", what)
        add(f"times the instructions of a delivery long after {name}", after / before, "engine::drop_transients", top)
    entries = 10_000_000
    worst, top = counted("grow", entries, plain("grow", entries)["at"])
    usual, _ = counted("grow", 100_000, 77_777)
    add("times the instructions of a usual publish: the one of 10,000,000 that asks for most memory", worst / usual,
        "a log grows in segments; ring::reserve_one: detail/base/containers.hpp", top)


def history(add):
    """What a journal costs in user space."""
    os.environ["GLIBC_TUNABLES"] = BASELINE
    try:
        plain_one, _ = per("sequence", 10_000, 1, 10_000)
        one, top = per("journal", 10_000, 1, 10_000)
        three, _ = per("journal", 10_000, 3, 10_000)
    finally:
        del os.environ["GLIBC_TUNABLES"]
    where = "journal::place, write_once: journal.hpp; journal_store::write: detail/journal/store.hpp; sequencer::hand_on: shards.hpp"
    add("times the instructions of an event of a sequencer with one shard: through a journal", one / plain_one, where, top)
    add("times the instructions of an event of a sequencer with one shard: each shard more that follows a journal",
        (three - one) / 2 / plain_one, where, top)
    total, top = counted("replay", 20_000, 3)
    add("instructions per event of a replay from a journal's files, to one channel", total / 20_000 / 3,
        "journal::give: journal.hpp; journal_history::read_shared, journal_segment::load: detail/journal/; "
        "backfill_writer::room_for: detail/engine/weave.hpp", top)
    files = plain("replay", 20_000, 0)
    add("bytes on disk for each byte of an event, of 180", files["disk"] / files["bytes"], "index_record: detail/journal/format.hpp")
    files = plain("disk", 20_000)
    add("bytes on disk for each byte of an event, of 40", files["disk"] / files["bytes"], "index_record: detail/journal/format.hpp")


def count_shapes(add):
    """Shapes of work beside the plain one: what they promise is in each name."""
    for part in (backlogs, memory, audiences, keys, chosen_keys, turns, history):
        part(add)


def count():
    """Name: (value, functions that matter, what it is and where to look)."""
    found = {}
    events, readers = 100, 1000

    def add(name, value, where, top=()):
        found[name] = (round(value, 3), where, top)
        print(f"  {name}: {found[name][0]}", flush=True)

    n, top = per("publish", 2000, 0, 2000)
    add("instructions per publish", n, "channel::publish: detail/engine/publish.hpp, encode.hpp, detail/log/", top)
    n, top = per("deliver", events, readers, events * readers)
    add("instructions per delivered event, one write each", n, "hub::flush: pump, gather, advance in "
        "detail/engine/flush.hpp", top)
    n, top = per("coalesce", 10 * events, readers, 10 * events * readers)
    add("instructions per delivered event, 20 in a write", n, "as above; a write must take all that is pending", top)
    n, top = per("lane", 2000, 0, 2000)
    add("instructions per event through a lane", n, "publisher::try_publish, mailbox::drain: mailbox.hpp", top)
    one, top = per("sequence", 2000, 1, 2000)
    four, _ = per("sequence", 2000, 4, 2000)
    where = "sequencer::place: shards.hpp; publisher::put_valid; mail_lane::take; engine::append"
    add("instructions per event of a sequencer with one shard", one, where, top)
    add("instructions per event of a sequencer, for each shard more", (four - one) / 3, where, top)

    reads = {"lines of 120 bytes": (120, 16_384), "a line of 10 MB": (10_000_000, 20_000_000),
             "a line of 10 MB in reads of 16 KiB": (10_000_000, 16_384)}
    for what, (line, piece) in reads.items():
        n, top = against_memchr(line, piece)
        add(f"instructions per one of memchr, parser, {what}", n, "parser::feed: parse.hpp; find_line_end: detail/base/lines.hpp", top)
    # How much of the world a step sees that has nothing to do with it.
    one, _ = per("idle-lanes", 1000, 1, 1000)
    many, top = per("idle-lanes", 1000, 1000, 1000)
    add("instructions of an idle drain and prepare_sleep, for each of 999 lanes more", abs(many - one) / 999,
        "lanes that had no mail lately are not looked at: mailbox::mark_limits, prepare_sleep, mail_lane::rest", top)
    add("bytes of a lane that was full once, of 1,000 of 256 KiB", plain("burst", 100, 1000)["bytes"],
        "mail_lane::give_back, mailbox_options::room_at_once")
    where = "nothing on this way may walk all channels: detail/server/server_core.hpp, detail/server/routes.hpp, detail/engine/channels.hpp"
    for step, few, most, name in [("targets", FEW, MANY, "mail for channels that have publishers"),
                                  ("idle-shard", 10, 8000, "an idle turn of a shard"),
                                  *((s, FEW, MANY, f"{s} a channel") for s in ("open", "find", "close")),
                                  ("route", FEW, MANY, "route a request to a channel"),
                                  ("accept", FEW, MANY, "accept a stream")]:
        n, top = ratio(step, 1000 if step in ("targets", "idle-shard") else 500, few, most)
        add(f"times the instructions with {most:,} channels instead of {few:,}: {name}", n, where, top)

    # What a flush to 100 readers costs beside few and beside many that have nothing to get.
    few, _ = per("quiet", 50, 100, 50, quiet=100)
    many, top = per("quiet", 50, 100, 50, quiet=20_000)
    add("instructions of a flush, each per cent that 19,900 quiet subscribers add", abs(many - few) / few * 100,
        "flush must walk only streams that got entries, and only who is behind: engine::flush, touch, settle", top)

    hot = plain("deliver", 2000, 50)
    add("allocations per 2,000 publishes and flushes", hot["allocations"], "nothing on this way may allocate: log.hpp "
        "(segments come from the pool), detail/base/")
    add("allocations per 2,000 events through a lane", plain("lane", 2000, 10)["allocations"], "mailbox.hpp, log.hpp")
    if hot["delivered"] != 2000 * 50:
        sys.exit(f"FAILED: {hot['delivered']} events were delivered of {2000 * 50}")
    batched = plain("coalesce", 10 * events, readers)
    add("writes per delivered event, 20 published per flush", batched["writes"] / batched["delivered"],
        "one gather must take all that is pending (a second one only where segments end): gather_one in "
        "detail/engine/flush.hpp")

    count_shapes(add)

    session = plain("session", 0, 10_000)
    add("bytes of session and subscription, sizeof", session["session_sizeof"], "struct session, struct subscription: "
        "detail/engine/parts.hpp")
    add("bytes per idle session, asked of operator new", session["session_bytes"], "slots, timer queue, readers: "
        "detail/engine/parts.hpp, caps.hpp, detail/base/")
    add("bytes per idle session, of 300,000", plain("session", 0, 300_000)["session_bytes"], "as above; in use after they "
        "opened: lanes")
    add("preprocessed lines of <sse/sse.hpp>", preprocessed_lines(), "some header was added: `tests/check-core cost` "
        "names the dear ones")
    return found


# Rows that are bounded by what was reached, and what they are to reach.
GOALS = {"instructions per event of a backlog of 320 on 16 channels, without the copying": 100}


def store(found):
    bounds = {}
    for name, (value, _, _) in found.items():
        slack = SLACK if name.startswith("instructions per") else 1.02 if name.startswith("preprocessed") else 1
        bounds[name] = round(value * slack, 3) if isinstance(value, float) else int(value * slack)
        promised = json.loads(BOUNDS.read_text())["bounds"]
        if name in promised and not re.match("instructions per (publish|delivered|event through)|bytes of session|preprocessed", name):
            bounds[name] = promised[name]
    BOUNDS.write_text(json.dumps({"compiler": "g++ 12 -O2", "bounds": bounds}, indent=2) + "\n")
    print(f"stored: {BOUNDS}")


def main():
    print("counting:")
    found = count()
    if "--store" in sys.argv[1:]:
        return store(found)
    bounds = json.loads(BOUNDS.read_text())["bounds"]
    problems = []
    for name in sorted(set(bounds) ^ set(found)):
        problems.append(f"{name}: is counted and has no bound, or the other way round; counts.py --store writes {BOUNDS}")
    for name, (value, where, top) in found.items():
        goal = next((g for prefix, g in GOALS.items() if name.startswith(prefix)), value)
        if value > goal:
            print(f"not at its goal of {goal} yet: {name}: {value}")
        if name in bounds and value > bounds[name]:
            problems.append("\n    ".join([f"{name}: {value}, bound {bounds[name]}", f"where: {where}",
                                           *(f"costs most: {line}" for line in top)]))
    if problems:
        print("FAILED", *problems, sep="\n  ")
        print("What to do: find the change that costs it (callgrind_annotate on `guard`, before and after). If the cost is "
              "meant, say why in the commit and store the new bounds with tests/guard/counts.py --store (g++ 12).")
        sys.exit(1)
    print("ok: all within their bounds")


main()
