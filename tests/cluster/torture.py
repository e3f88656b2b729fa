#!/usr/bin/python3
"""What breaks, and who repairs it, while torture_driver's application runs: see torture.sh.

Two things at a time may be broken. The keeper stands for the cluster manager: where nobody serves
the pool it has a node acquire it, a deposed owner is made to give up, an application whose flushes
fail is started anew. Prints each fault as it comes and figures at the end.

Exit code 0; 1: something did not work again, or the run came to nothing; 2: a violation.
"""
import argparse
import collections
import ctypes
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

NODES = ["n1", "n2", "n3"]
AT_ONCE = 2
SETTLE_SECONDS = 90
PR_SET_PDEATHSIG = 1  # However this ends, the application ends with it.
LAB, FERRY, FERRYD = (os.environ[name] for name in ("FERRY_LAB", "FERRY", "FERRYD"))


def lab(*words, timeout=60):
    """(exit code, output); a lab that does not answer is 124."""
    try:
        done = subprocess.run([LAB, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return 124, ""
    return done.returncode, done.stdout.decode(errors="replace")


class Driver:
    """The application, in a process of its own outside of the nodes."""

    def __init__(self, seed, work):
        uris = [f"nbd+unix:///data?socket={work}/{node}.sock" for node in NODES]
        self.process = subprocess.Popen(
            [os.environ["DRIVER"], "-s", str(seed), "-m", "1", *uris],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            preexec_fn=lambda: ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        self.lock = threading.Lock()
        if self.process.stdout.readline() != "ready\n":
            raise SystemExit("torture: the driver does not begin")

    def ask(self, line):
        with self.lock:
            self.process.stdin.write(line + "\n")
            return self.process.stdout.readline()

    def figures(self):
        return json.loads(self.ask("figures"))

    def end(self):
        answer = self.ask("end")
        return self.process.wait(), json.loads(answer or "{}")


class Node:
    def __init__(self, name, number):
        self.name = name
        self.number = number
        self.lock = threading.Lock()  # Of one fault at a time.
        self.is_on = True
        self.is_frozen = False

    def sh(self, script, timeout=20):
        return lab("exec", self.name, "sh", "-c", script, timeout=timeout)

    def ferry(self, *words, timeout=5):
        return lab("exec", self.name, FERRY, "--timeout", str(timeout), *words,
                   timeout=timeout + 5)

    def status(self):
        code, text = self.ferry("--json", "status", timeout=1)
        try:
            return json.loads(text) if code == 0 else None
        except json.JSONDecodeError:
            return None

    def agent_start(self):
        self.sh("mkdir -p /run/ferry; chmod 600 /etc/ferry/authkey; setsid " + FERRYD +
                " --config /etc/ferry/ferryd.conf >>/var/log/ferryd.log 2>&1 </dev/null &"
                " echo $! >/run/ferryd.pid")


class Torture:
    def __init__(self, options):
        self.options = options
        self.random = random.Random(options.seed)
        self.began = time.monotonic()
        self.driver = Driver(options.seed, options.work)
        self.nodes = [Node(name, index + 1) for index, name in enumerate(NODES)]
        self.target = threading.Lock()
        self.ownership = threading.RLock()  # One change at a time.
        self.counts = collections.Counter()
        self.seen = {}  # (node, incarnation): its pool's figures, as seen last.
        self.epoch = 0
        self.states = ""
        self.held = set()  # Nodes where no application may begin.
        self.flushes_at_loss = None  # How many had succeeded when the target lost its cache last.
        self.is_over = False
        self.stop_keeper = False
        self.running = []

    def say(self, text):
        print(f"    {time.monotonic() - self.began:7.2f} {text}", flush=True)

    # ---- Faults: each breaks something, waits, and mends it. ----

    def pause(self, low, high):
        deadline = time.monotonic() + self.random.uniform(low, high)
        while time.monotonic() < deadline and not self.is_over:
            time.sleep(0.02)

    def application_dies(self, node):
        """It begins anew by what it finds, once its node owns the pool."""
        with self.ownership:
            self.driver.ask(f"drop {node.number}")
            self.hold(node)

    def agent_start(self, node):
        """
        The new agent knows nothing of a loss that the last one has told nobody of: agent and
        target at once are taken for the application, too (docs/decisions/0009, what is left).
        """
        if self.driver.figures()["flushes"] == self.flushes_at_loss:
            self.application_dies(node)
        node.agent_start()

    def agent_kill(self, node):
        node.sh("kill -KILL $(cat /run/ferryd.pid)")
        self.pause(0.1, 3)
        self.agent_start(node)

    def agent_freeze(self, node):
        node.is_frozen = True
        node.sh("kill -STOP $(cat /run/ferryd.pid)")
        self.pause(0.3, 8)
        node.sh("kill -CONT $(cat /run/ferryd.pid)")
        node.is_frozen = False

    def node_freeze(self, node):
        """All of it, as when a virtual machine is paused."""
        node.is_frozen = True
        node.sh("kill -STOP -1")
        self.pause(0.3, 6)
        node.sh("kill -CONT -1")
        node.is_frozen = False

    def node_power_cut(self, node):
        node.is_on = False
        lab("kill", node.name)
        self.application_dies(node)
        self.pause(0.5, 6)
        code, text = lab("boot", node.name)
        if code != 0:
            raise SystemExit(f"torture: {node.name} does not boot: {text}")
        node.agent_start()
        node.is_on = True

    def cut(self, node, net, low, high, *how):
        lab("cut", node.name, net, *how)
        self.pause(low, high)
        lab("heal", node.name, net)

    def storage_black_hole(self, node):
        self.cut(node, "storage", 0.5, 7, *self.random.choice([(), (), ("--in",), ("--out",)]))

    def storage_reset(self, node):
        self.cut(node, "storage", 0.05, 2, "--reset")

    def cluster_partition(self, node):
        self.cut(node, "cluster", 0.5, 7)

    def cluster_reset(self, node):
        self.cut(node, "cluster", 0.05, 1, "--reset")

    def links_cut(self, node):
        """Between two nodes only: their agents may not talk, the third sees both."""
        other = self.random.choice([n.name for n in self.nodes if n is not node])
        lab("cut", node.name, "cluster", other, "--reset")
        self.pause(0.2, 3)
        lab("heal", node.name, "cluster")

    def move(self, node):
        with self.ownership:
            owner = self.owner()
            if not owner or owner is node:
                return False
            self.hold(node)
            code, text = owner.ferry("move", "data", node.name, "--force", timeout=15)
            if not code:
                self.begin_at(node)
        if code:
            self.say(f"the move to {node.name} did not end well: {text.strip()}")
        return None

    def target_stall(self, _):
        lab("target", "stall")
        self.pause(0.2, 5)
        lab("target", "resume")

    def target_freeze(self, _):
        lab("target", "stop")
        self.pause(0.2, 4)
        lab("target", "continue")

    def target_power_cut(self, _):
        if self.random.random() < 0.3:
            lab("target", "stall")
            self.pause(0.1, 2)
        lab("target", "kill")
        self.driver.ask("lost")  # After the moment itself, before the target lives again.
        self.flushes_at_loss = self.driver.figures()["flushes"]
        self.pause(0, 2)
        code, text = lab("target", "power-cut", str(self.random.randrange(1 << 30)))
        if code != 0:
            raise SystemExit(f"torture: the target does not come back: {text}")

    def fault_draw(self):
        """(name, its lock, its node)."""
        node = self.random.choice(self.nodes)
        owner = self.owner()
        if owner and self.random.random() < 0.4:
            node = owner
        target = [(4, self.target_stall), (2, self.target_freeze), (3, self.target_power_cut)]
        others = [(3, self.agent_kill), (3, self.agent_freeze), (1, self.node_freeze),
                  (2, self.node_power_cut), (4, self.storage_black_hole), (3, self.storage_reset),
                  (2, self.cluster_partition), (1, self.cluster_reset), (1, self.links_cut),
                  (3, self.move)]
        faults = target if self.options.target_only else target + others
        faults = [f for f in faults if f[1].__name__ not in self.options.without]
        pick = self.random.choices([f for _, f in faults], [w for w, _ in faults])[0]
        return pick, self.target if pick in [f for _, f in target] else node.lock, node

    def fault_run(self, fault, lock, node):
        name = fault.__name__.replace("_", "-")
        what = name if lock is self.target else f"{name} {node.name}"
        self.say(what)
        try:
            if fault(node) is not False:
                self.counts[name] += 1
        finally:
            lock.release()
        if name != "move":
            self.say(f"{what}: over")

    def break_things(self):
        deadline = self.began + self.options.seconds
        while time.monotonic() < deadline and self.driver.process.poll() is None:
            self.pause(0.2, 2)
            self.running = [thread for thread in self.running if thread.is_alive()]
            if len(self.running) >= AT_ONCE:
                continue
            fault, lock, node = self.fault_draw()
            if not lock.acquire(blocking=False):
                continue
            thread = threading.Thread(target=self.fault_run, args=(fault, lock, node))
            self.running.append(thread)
            thread.start()
        self.is_over = True
        for thread in self.running:
            thread.join()

    # ---- The keeper. ----

    def owner(self):
        """Who serves, as its own agent last said."""
        best = None
        for (node, _), pool in self.seen.items():
            if pool["is_fresh"] and pool["state"] in ("serving", "holding"):
                if best is None or pool["epoch"] > best[1]:
                    best = node, pool["epoch"]
        return best and self.nodes[best[0] - 1]

    def look(self):
        for pool in self.seen.values():
            pool["was_fresh"] = False
        for node in self.nodes:
            if not node.is_on or node.is_frozen:
                continue
            status = node.status()
            if status and status.get("pools"):
                pool = status["pools"][0]
                pool.update(is_fresh=True, was_fresh=True, quorate=status["quorate"])
                self.seen[node.number, status["incarnation"]] = pool
                if pool["epoch"] > self.epoch:
                    self.counts["epochs"] += pool["epoch"] - self.epoch
                    self.epoch = pool["epoch"]
        for pool in self.seen.values():
            pool["is_fresh"] = pool["was_fresh"]
        states = " ".join(f"{node.name}:{self.state_of(node) or '-'}" for node in self.nodes)
        if states != self.states:
            self.say(f"    {states}, epoch {self.epoch}")
            self.states = states

    def state_of(self, node):
        for (number, _), pool in self.seen.items():
            if number == node.number and pool["is_fresh"]:
                return pool["state"]
        return None

    def hold(self, node):
        """No application begins there before the pool is owned."""
        self.held.add(node)
        self.driver.ask(f"hold {node.number}")

    def begin_at(self, node):
        """
        An application there begins by what it finds. What was lost until now had been promised to
        those before it; what is lost from now on must be told.
        """
        self.held.discard(node)
        self.driver.ask("forgive")
        self.driver.ask(f"go {node.number}")

    def acquire(self, node):
        """A new owner; applications elsewhere are over."""
        self.driver.ask(f"drop {node.number}")
        self.hold(node)
        code, _ = node.ferry("acquire", "data", "--take", timeout=6)
        if code:
            self.counts["acquire-refused"] += 1
            return
        self.begin_at(node)
        self.counts["acquire"] += 1
        for other in self.nodes:
            # Some stay, to see what a deposed owner tells them.
            if other is not node and self.random.random() < 0.6:
                self.driver.ask(f"drop {other.number}")

    def agents_restart(self):
        """As a service manager does; an agent gives up at its start without corosync."""
        for node in self.nodes:
            if self.state_of(node) is None and node.lock.acquire(blocking=False):
                if node.is_on and not node.is_frozen and node.sh(
                        'grep -q "^State:[[:space:]]*[^ZX]" /proc/$(cat /run/ferryd.pid)/status')[0]:
                    self.agent_start(node)
                    self.counts["agent-restart"] += 1
                node.lock.release()

    def keep(self):
        with self.ownership:
            self.look()
            self.agents_restart()
            owner = self.owner()
            figures = self.driver.figures()
            if owner in self.held:
                self.begin_at(owner)  # What was refused, or timed out, came about all the same.
            for node in self.nodes:
                if self.state_of(node) == "fenced" and node is not owner:
                    node.ferry("release", "data", timeout=3)
                    self.counts["release-of-deposed"] += 1
            if not owner and figures["idle_ms"] > 1000:
                able = [n for n in self.nodes if self.state_of(n) in ("standby", "fenced")]
                if able:
                    self.acquire(self.random.choice(able))
            elif owner and figures["flush_failures"][owner.number - 1] >= 3:
                # Its flushes will fail until someone has looked: the application starts anew.
                owner.ferry("release", "data", "--force", timeout=15)
                self.counts["application-restart"] += 1
                self.look()

    def keep_on(self):
        while not self.stop_keeper and self.driver.process.poll() is None:
            self.keep()
            time.sleep(0.1)

    # ---- The end. ----

    def settle(self):
        """All is mended: there must be an owner whose reads, writes and flushes succeed."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            before = self.driver.figures()
            time.sleep(0.3)
            after = self.driver.figures()
            if all(after[name] > before[name] for name in ("reads", "writes", "flushes")) and (
                    after["errors"] == before["errors"]):
                return True
        return False

    def print_figures(self, figures):
        losses = lab("target", "losses")[1].split()
        for row in (figures, dict(sorted(self.counts.items())),
                    {key: sum(pool[key] for pool in self.seen.values())
                     for key in ("ios", "detours", "failures", "ghosts_laid")}):
            print("    " + ", ".join(f"{key} {value}" for key, value in row.items()
                                     if not isinstance(value, list)))
        print("    target: " + " ".join(losses), flush=True)

    def run(self):
        keeper = threading.Thread(target=self.keep_on, daemon=True)
        keeper.start()
        self.break_things()
        settled = self.settle()
        self.stop_keeper = True
        keeper.join()
        self.look()
        code, figures = self.driver.end()
        self.print_figures(figures)
        if code == 2:
            return 2
        if not settled:
            print(f"    it did not work again {SETTLE_SECONDS} s after the last fault")
            return 1
        return code


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--without", action="append", default=[], help="not this fault: agent_kill")
    parser.add_argument("--target-only", action="store_true", help="only the target has faults")
    return Torture(parser.parse_args()).run()


sys.exit(main())
