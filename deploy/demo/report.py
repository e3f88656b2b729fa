#!/usr/bin/python3
"""report.py - what run.sh has gathered, as figures, a picture, and a verdict.

    report.py OUT SECONDS      OUT/report.json, OUT/timeline.svg; exits 1 if a promise is broken

Reads, all in OUT: moments.tsv (run.sh's), client.tsv and client-cold.tsv (client.py's),
events-NODE.jsonl and status.jsonl (ferry's), counters.txt (the target's).
"""
import json
import math
import os
import sys

STALL_MS_MAX = 5500  # The default path timeout, 5 s, and half a second.
READS_ACKS = 2500  # Reads at the target are counted until so many commits were made.
WIDTH, HEIGHT = 960, 520


class Run:
    def __init__(self, out):
        self.out = out
        self.moments = {}
        for line in self.lines("moments.tsv"):
            at, name, text = (line.split("\t") + [""])[:3]
            self.moments[name] = (float(at), text)
        self.cut = self.moments["cut"][0]
        self.client = self.transactions("client.tsv")
        self.cold = self.transactions("client-cold.tsv")
        self.status = [json.loads(line) for line in self.lines("status.jsonl")]
        self.status = [sample for sample in self.status if sample["pool"]]
        self.counters = []
        for line in self.lines("counters.txt"):
            at, rest = line.split(" ", 1)
            figures = dict(word.split("=") for word in rest.split())
            self.counters.append((float(at), int(figures["reads"])))

    def lines(self, name):
        path = os.path.join(self.out, name)
        if not os.path.exists(path):
            return []
        with open(path, encoding="utf-8") as file:
            return [line.rstrip("\n") for line in file if line.strip()]

    def transactions(self, name):
        """(kind, end, latency in ms), ordered by their end."""
        rows = [line.split("\t") for line in self.lines(name)]
        return sorted((r[0], float(r[1]), float(r[2])) for r in rows if r[0] != "connect")

    def event(self, node, after, **wanted):
        """When such an event was, first after a moment; None: never."""
        for line in self.lines(f"events-{node}.jsonl"):
            event = json.loads(line)
            at = event["time_wall_ns"] / 1e9
            if at > after and all(event[key] == value for key, value in wanted.items()):
                return at
        return None

    def node_status(self, node, begin, end):
        return [s["pool"] for s in self.status
                if s["node"] == node and begin <= s["at"] <= end]

    def reads_until(self, begin, transactions, count):
        """Reads at the target from a moment until so many commits came after it."""
        ends = sorted(t[1] for t in transactions if t[0] == "ack" and t[1] > begin)
        if len(ends) < count:
            return None
        before = [c for c in self.counters if c[0] <= begin]
        after = [c for c in self.counters if c[0] >= ends[count - 1]]
        if not before or not after:
            return None
        return after[0][1] - before[-1][1]


def figures_of(run):
    cut = run.cut
    convicted = run.event("n1", cut, kind="path-state", to="CONVICTED")
    detoured = run.event("n1", cut, kind="path-state", to="FORWARDING")
    move = convicted if convicted else run.moments["moved"][0]
    acks = [t for t in run.client if t[0] == "ack"]
    errors = [t for t in run.client if t[0] != "ack"]
    moved_to = run.moments["moved"][1].split()[-1]
    owned = run.event(moved_to, cut, kind="epoch", to="OWNING")
    # Until the move begins each transaction must succeed; what ends with an error later was
    # interrupted by the database's own restart.
    last_before = max(t[1] for t in acks if t[1] < (owned or move))
    first_after = min(t[1] for t in acks if t[1] > (owned or move))
    stalls = [t[2] for t in acks if cut < t[1] <= move + 0.5]
    of_n1 = run.node_status("n1", cut, move + 30)
    before = run.node_status("n1", 0, cut)
    ghosts = max((p["ghosts_alive"] + p["ghosts_laid"] for p in of_n1), default=0)
    ghosts -= max((p["ghosts_alive"] + p["ghosts_laid"] for p in before), default=0)
    detours = max((p["detours"] for p in of_n1), default=0)
    of_target = run.node_status(moved_to, first_after, run.moments["end"][0])
    cache = of_target[-1]["cache"] if of_target else {}
    reads = run.reads_until(owned or move, run.client, READS_ACKS)
    cold = run.reads_until(run.moments["cold"][0], run.cold, READS_ACKS)
    steady = [t for t in acks if cut - 9.5 < t[1] < cut - 1.5]  # Then run.sh slows writes.
    carried = [t for t in acks if detoured and detoured < t[1] < move]
    there = run.lines("interrupted_but_there.txt")
    report = {
        "failed_transactions": sum(1 for t in errors if t[1] < move),
        "interrupted_by_move": sum(1 for t in errors if t[1] >= move),
        "interrupted_but_committed": int(there[0]) if there else None,
        "acknowledged": len(acks),
        "lost": len(run.lines("lost.txt")),
        "ghosts_at_cut": ghosts,
        "stall_ms_max": round(max(stalls, default=0)),
        "detours": detours,
        "moved_from": "n1",
        "moved_to": moved_to,
        "move_ms": round((first_after - move) * 1000),
        "pause_ms": round((first_after - last_before) * 1000),
        "conviction_ms": round((move - cut) * 1000),
        "tps_before_cut": round(len(steady) / 8),
        "tps_on_detours": round(len(carried) / (move - detoured)) if carried else None,
        "cache_enabled": bool(cache.get("enabled")),
        "cache_reason": cache.get("reason", ""),
        "cache_hits_after_move": cache.get("hits", 0),
        "warm_blocks": cache.get("warm_blocks", 0),
        "storage_reads_after_move": reads,
        "storage_reads_cold": cold,
        "storage_reads_avoided": cold - reads if None not in (cold, reads) else None,
    }
    marks = [(cut, "cut"), (detoured, "detours"), (convicted, "convicted"), (owned, "new owner"),
             (first_after, "commits again"), (run.moments["heal"][0], "healed"),
             (run.moments["healthy"][0], "healthy")]
    return report, [m for m in marks if m[0]]


def promises_of(report):
    yield "the path was convicted and the group moved", report["moved_to"] != "n1"
    yield "no transaction failed before the move", report["failed_transactions"] == 0
    yield "no acknowledged commit is lost", report["lost"] == 0
    yield "writes were in flight at the cut", report["ghosts_at_cut"] > 0
    yield "peers carried I/O", report["detours"] > 0
    yield f"I/O stalled for less than {STALL_MS_MAX} ms", report["stall_ms_max"] <= STALL_MS_MAX
    if report["cache_enabled"]:
        yield "the target began warm", report["warm_blocks"] > 0
        yield "and read less than cold", (report["storage_reads_avoided"] or 0) > 0


# ---- The picture. ----


class Plot:
    """One panel; time is x, its own scale is y."""

    def __init__(self, top, height, begin, end, y_max, y_min=0.0, is_log=False):
        self.top, self.height = top, height
        self.begin, self.end = begin, end
        self.y_max, self.y_min, self.is_log = y_max, y_min, is_log

    def x(self, at):
        return 72 + (WIDTH - 92) * (at - self.begin) / (self.end - self.begin)

    def y(self, value):
        if self.is_log:
            value = max(value, self.y_min)
            share = math.log(value / self.y_min) / math.log(self.y_max / self.y_min)
        else:
            share = value / self.y_max
        return self.top + self.height * (1 - share)

    def grid(self, values, unit):
        for value in values:
            y = self.y(value)
            yield (f'<line x1="72" x2="{WIDTH - 20}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
                   f'<text x="66" y="{y + 4:.1f}" class="tick">{value:g}{unit}</text>')


def bins_of(run, width_s, begin, end):
    bins = [[] for _ in range(int((end - begin) / width_s) + 1)]
    for kind, at, latency in run.client:
        if kind == "ack" and begin <= at < end:
            bins[int((at - begin) / width_s)].append(latency)
    return bins


def round_up(value):
    step = 10 ** (len(str(int(value))) - 1)
    return (int(value) // step + 1) * step


def svg_of(run, report, marks):
    width_s = 0.25
    begin, end = run.client[0][1], run.moments["end"][0]
    begin = min(t[1] for t in run.client)
    bins = bins_of(run, width_s, begin, end)
    tps_max = round_up(max(len(b) for b in bins) / width_s)
    rate = Plot(64, 190, begin, end, tps_max)
    slow = Plot(300, 170, begin, end, 10000.0, 1.0, is_log=True)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        "<style>.grid{stroke:#ddd}.tick{text-anchor:end;fill:#555}.mark{stroke:#b03030;"
        "stroke-dasharray:4 3}.name{fill:#b03030;font-size:11px}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        '<text x="72" y="22" font-size="15">A storage path fails under PostgreSQL: '
        f'{report["acknowledged"]} commits, {report["failed_transactions"]} failed before the '
        f'move, {report["lost"]} lost</text>',
        f'<text x="72" y="{rate.top - 6}" fill="#205090">commits per second</text>',
        f'<text x="72" y="{slow.top - 6}" fill="#207040">latency: median and worst of each '
        "quarter second</text>",
    ]
    out += rate.grid([tps_max * i / 4 for i in range(5)], "")
    out += slow.grid([1, 10, 100, 1000, 10000], " ms")
    points = " ".join(
        f"{rate.x(begin + (i + 0.5) * width_s):.1f},{rate.y(len(b) / width_s):.1f}"
        for i, b in enumerate(bins[:-1]))
    out.append(f'<polygon points="{rate.x(begin):.1f},{rate.y(0):.1f} {points} '
               f'{rate.x(end):.1f},{rate.y(0):.1f}" fill="#d5e3f3" stroke="#205090"/>')
    for i, latencies in enumerate(bins):
        if not latencies:
            continue
        x = slow.x(begin + (i + 0.5) * width_s)
        latencies.sort()
        for value, colour in ((latencies[len(latencies) // 2], "#207040"),
                              (latencies[-1], "#e09030")):
            out.append(f'<circle cx="{x:.1f}" cy="{slow.y(value):.1f}" r="1.6" fill="{colour}"/>')
    last_x, row = -1000.0, 0
    for at, name in sorted(marks):
        x = rate.x(at)
        row = (row + 1) % 3 if x - last_x < 90 else 0
        last_x = x
        out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="36" y2="{slow.top + slow.height}" '
                   f'class="mark"/><text x="{x + 3:.1f}" y="{38 + 12 * row}" class="name">{name}'
                   "</text>")
    step = 5
    for second in range(0, int(end - begin) + 1, step):
        x = rate.x(begin + second)
        out.append(f'<text x="{x:.1f}" y="{slow.top + slow.height + 18}" text-anchor="middle" '
                   f'fill="#555">{second} s</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"


def tell(report):
    reads = (f"{report['storage_reads_after_move']} reads at the target for the first "
             f"{READS_ACKS} commits; cold: {report['storage_reads_cold']}")
    if report["cache_enabled"]:
        warm = f"{report['warm_blocks']} blocks; {reads}"
    else:
        warm = f"not yet ({report['cache_reason'] or 'the cache is off'}); {reads}"
    rows = [
        ("until the path failed", f"{report['tps_before_cut']} commits per second"),
        ("writes in flight at the cut", f"{report['ghosts_at_cut']} ghosts, each proven dead"),
        ("longest stall", f"{report['stall_ms_max']} ms (path timeout 5000 ms)"),
        ("on detours", f"{report['tps_on_detours']} commits per second, "
                       f"{report['detours']} I/Os carried by peers"),
        ("failed before the move", report["failed_transactions"]),
        ("convicted", f"{report['conviction_ms']} ms after the cut"),
        ("moved", f"{report['moved_from']} to {report['moved_to']}, commits again "
                  f"{report['move_ms']} ms after conviction"),
        ("interrupted by the restart", f"{report['interrupted_by_move']} "
         f"({report['interrupted_but_committed']} of them had been committed)"),
        ("acknowledged, lost", f"{report['acknowledged']}, {report['lost']}"),
        ("warm start", warm),
    ]
    print()
    for name, value in rows:
        print(f"  {name:<30} {value}")
    print()


def main():
    out, seconds = sys.argv[1], int(sys.argv[2])
    run = Run(out)
    report, marks = figures_of(run)
    report["seconds"] = seconds
    broken = [text for text, is_kept in promises_of(report) if not is_kept]
    report["broken_promises"] = broken
    with open(os.path.join(out, "report.json"), "w", encoding="utf-8") as file:
        json.dump(report, file, indent=2)
        file.write("\n")
    with open(os.path.join(out, "timeline.svg"), "w", encoding="utf-8") as file:
        file.write(svg_of(run, report, marks))
    tell(report)
    for text in broken:
        print(f"BROKEN PROMISE: not so: {text}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
