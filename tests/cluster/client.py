#!/usr/bin/python3
"""An application that knows what it wrote.

  client.py load URI JOURNAL --tag N [--seconds N] [--depth N] [--blocks N] [--go-on]
      Numbered 4 KiB blocks, each slot at its own ones, reads checked, flushes in between. Ends
      after N seconds, when JOURNAL.stop appears, or (but for --go-on) with the first error. The
      journal, outside of the volume, says what was asked for and what was acknowledged. Prints one
      line of JSON: figures, errors, each gap between completions of 10 ms and more, each request
      that took 50 ms and more; these as [begin, length] in ns.
  client.py check URI JOURNAL...
      Every block must hold what a journal says: of the last journal that has it, nothing older
      than what was durable, nothing that was never written. Earlier journals' blocks must not
      come back once a later one has a durable write to them.
  client.py once URI read|write [--timeout N]
      One request; exit code 0, or 5 with the errno's name. For probing.

Times are of CLOCK_MONOTONIC, which all nodes of a lab share.
"""
import argparse
import errno
import json
import os
import random
import struct
import sys
import time
import zlib

import nbd

BLOCK = 4096
HEAD = struct.Struct("<8sIIQI")  # magic, tag, block, sequence, checksum of the body
MAGIC = b"FERRYBLK"
GAP_NS = 10_000_000
SLOW_NS = 50_000_000


def block_make(tag, block, sequence):
    body = struct.pack("<IQ", tag, sequence) * ((BLOCK - HEAD.size) // 12)
    body += bytes(BLOCK - HEAD.size - len(body))
    return HEAD.pack(MAGIC, tag, block, sequence, zlib.crc32(body)) + body


def block_read(data, block):
    """(tag, sequence), None for a block that nobody wrote; ValueError for garbage."""
    if data == bytes(BLOCK):
        return None
    magic, tag, number, sequence, crc = HEAD.unpack_from(data)
    if magic != MAGIC or number != block or crc != zlib.crc32(data[HEAD.size:]):
        raise ValueError(f"block {block} is torn or another's: {data[:32].hex()}")
    return tag, sequence


class Load:
    def __init__(self, options):
        self.options = options
        self.handle = nbd.NBD()
        self.handle.connect_uri(options.uri)
        self.journal = open(options.journal, "w", buffering=1 << 20)
        self.random = random.Random(options.tag)
        self.sequence = 0
        self.acked = {}
        self.acknowledged = 0
        self.flushes = 0
        self.reads = 0
        self.in_flight = 0
        self.errors = []
        self.mismatches = []
        self.gaps = []
        self.slow = []
        self.began = {}
        self.say(f"T {options.tag}\n")
        self.started_ns = self.last_ns = time.monotonic_ns()
        self.gap_max_ns = 0
        self.flushing = False
        self.ready = []
        self.over = False

    def say(self, text):
        self.journal.write(text)

    def ended(self, slot, error, what):
        error = error.value  # A ctypes.c_int.
        now_ns = time.monotonic_ns()
        took_ns = now_ns - self.began[slot]
        if took_ns >= SLOW_NS:
            self.slow.append([self.began[slot], took_ns])
        gap_ns = now_ns - self.last_ns
        self.gap_max_ns = max(self.gap_max_ns, gap_ns)
        if gap_ns >= GAP_NS:
            self.gaps.append([self.last_ns, gap_ns])
        self.last_ns = now_ns
        self.in_flight -= 1
        if error:
            name = errno.errorcode.get(error, str(error))
            self.errors.append([now_ns, what, name])
            self.over = self.over or not self.options.go_on
        self.ready.append(slot)  # A callback must not ask for more itself.

    def start(self, slot):
        self.began[slot] = time.monotonic_ns()
        if slot == 0 and not self.flushing and self.acknowledged % 64 == 63:
            self.flush()
            return
        count = self.options.blocks // self.options.depth
        block = self.random.randrange(count) * self.options.depth + slot
        self.in_flight += 1
        if self.random.random() < 0.4 and self.acked.get(block):
            self.read(slot, block)
        else:
            self.write(slot, block)

    def write(self, slot, block):
        self.sequence += 1
        sequence = self.sequence
        fua = self.random.random() < 0.1
        buffer = nbd.Buffer.from_bytearray(
            bytearray(block_make(self.options.tag, block, sequence)))
        self.acked[block] = None  # Either may be there until the answer.
        self.say(f"S {block} {sequence}\n")
        self.journal.flush()  # Before it leaves: this process may die with its node.

        def done(error):
            if not error.value:
                self.say(f"{'D' if fua else 'A'} {block} {sequence}\n")
                self.acked[block] = sequence
                self.acknowledged += 1
            self.ended(slot, error, "write")
            return 1

        self.handle.aio_pwrite(buffer, block * BLOCK, completion=done,
                               flags=nbd.CMD_FLAG_FUA if fua else 0)

    def read(self, slot, block):
        buffer = nbd.Buffer(BLOCK)
        expected = (self.options.tag, self.acked[block])

        def done(error):
            if not error.value:
                self.reads += 1
                try:
                    found = block_read(bytes(buffer.to_bytearray()), block)
                    if found != expected:
                        raise ValueError(f"block {block}: {found}, expected {expected}")
                except ValueError as mismatch:
                    self.mismatches.append(str(mismatch))
                    self.over = True
            self.ended(slot, error, "read")
            return 1

        self.handle.aio_pread(buffer, block * BLOCK, completion=done)

    def flush(self):
        self.flushing = True
        self.in_flight += 1
        self.flushes += 1
        number = self.flushes
        self.say(f"f {number}\n")

        def done(error):
            self.flushing = False
            if not error.value:
                self.acknowledged += 1
                self.say(f"F {number}\n")
            self.ended(0, error, "flush")
            return 1

        self.handle.aio_flush(completion=done)

    def run(self):
        deadline_ns = self.started_ns + int(self.options.seconds * 1e9)
        stop = self.options.journal + ".stop"
        looked_ns = 0
        lost = None
        try:
            for slot in range(self.options.depth):
                self.start(slot)
            while self.in_flight:
                self.handle.poll(100)
                ready, self.ready = self.ready, []
                for slot in ready:
                    if not self.over:
                        self.start(slot)
                now_ns = time.monotonic_ns()
                if now_ns - looked_ns > 50_000_000:
                    looked_ns = now_ns
                    self.journal.flush()
                    if now_ns > deadline_ns or os.path.exists(stop):
                        self.over = True
        except nbd.Error as error:
            lost = str(error)
        self.journal.close()
        gap_ns = time.monotonic_ns() - self.last_ns
        if self.in_flight:  # Its end was not seen: the connection went.
            self.gap_max_ns = max(self.gap_max_ns, gap_ns)
        print(json.dumps({
            "acknowledged": self.acknowledged, "reads": self.reads, "flushes": self.flushes,
            "errors": len(self.errors), "first_errors": self.errors[:3],
            "last_error": self.errors[-1:], "started_ns": self.started_ns,
            "mismatches": self.mismatches[:3], "lost": lost, "unanswered": self.in_flight,
            "gap_ms_max": self.gap_max_ns // 1_000_000,
            "slow_ms_max": max([took for _, took in self.slow], default=0) // 1_000_000,
            "gaps": self.gaps, "slow": self.slow,
        }))
        return 0 if not self.errors and not self.mismatches and not lost else 5


class History:
    """What one journal promises of each block."""

    def __init__(self, path):
        self.tag = None
        self.sent = {}
        self.durable = {}
        acked = {}
        covered = {}
        with open(path, encoding="ascii") as lines:
            for line in lines:
                if not line.endswith("\n"):
                    break  # The client was killed while it wrote this.
                words = line.split()
                if words[0] == "T":
                    self.tag = int(words[1])
                elif words[0] == "S":
                    self.sent.setdefault(int(words[1]), set()).add(int(words[2]))
                elif words[0] == "A":
                    acked[int(words[1])] = int(words[2])
                elif words[0] == "D":
                    acked[int(words[1])] = self.durable[int(words[1])] = int(words[2])
                elif words[0] == "f":
                    covered[int(words[1])] = dict(acked)
                elif words[0] == "F":
                    for block, sequence in covered.pop(int(words[1])).items():
                        self.durable[block] = max(self.durable.get(block, 0), sequence)


def check(options):
    handle = nbd.NBD()
    handle.connect_uri(options.uri)
    histories = [History(path) for path in options.journals]
    index_of = {history.tag: index for index, history in enumerate(histories)}
    assert len(index_of) == len(histories), "two loads with one tag"
    blocks = set().union(*[history.sent for history in histories])
    bad = []
    kept = 0
    for block in sorted(blocks):
        floor = -1  # The newest journal with a durable write to it.
        for index, history in enumerate(histories):
            if block in history.durable:
                floor = index
        try:
            found = block_read(bytes(handle.pread(BLOCK, block * BLOCK)), block)
        except ValueError as error:
            bad.append(str(error))
            continue
        index = index_of.get(found[0], -1) if found else -1
        if index < 0 and floor < 0:
            continue  # What was there before: nothing was promised.
        if index < floor:
            bad.append(f"block {block}: {found}, but journal {floor + 1} had a durable "
                       f"{histories[floor].durable[block]}")
        elif found[1] not in histories[index].sent.get(block, ()):
            bad.append(f"block {block}: {found} was never written")
        elif index == floor and found[1] < histories[floor].durable[block]:
            bad.append(f"block {block}: {found}, but {histories[floor].durable[block]} was durable")
        else:
            kept += 1
    durable = sum(len(history.durable) for history in histories)
    print(json.dumps({"blocks": len(blocks), "durable": durable, "kept": kept,
                      "bad": len(bad), "first_bad": bad[:5]}))
    return 0 if not bad else 5


def once(options):
    handle = nbd.NBD()
    started_ns = time.monotonic_ns()
    try:
        handle.connect_uri(options.uri)
        offset = handle.get_size() - BLOCK  # Nobody's block.
        if options.what == "read":
            handle.pread(BLOCK, offset)
        else:
            handle.pwrite(b"x" * BLOCK, offset)
        result, code = "ok", 0
    except nbd.Error as error:
        result, code = error.errno or error.string, 5
    print(result, (time.monotonic_ns() - started_ns) // 1_000_000)
    return code


def main():
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("load")
    verb.add_argument("uri")
    verb.add_argument("journal")
    verb.add_argument("--seconds", type=float, default=600)
    verb.add_argument("--tag", type=int, required=True)
    verb.add_argument("--depth", type=int, default=16)
    verb.add_argument("--blocks", type=int, default=2048)
    verb.add_argument("--go-on", action="store_true")
    verb = verbs.add_parser("check")
    verb.add_argument("uri")
    verb.add_argument("journals", nargs="+")
    verb = verbs.add_parser("once")
    verb.add_argument("uri")
    verb.add_argument("what", choices=["read", "write"])
    options = parser.parse_args()
    if options.verb == "load":
        return Load(options).run()
    return check(options) if options.verb == "check" else once(options)


sys.exit(main())
