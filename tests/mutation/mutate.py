#!/usr/bin/env python3
"""mutate.py - would the tests notice? Small mistakes in ranks 0-3, one at a time.

    mutate.py [--sample N] [--seed S] [--jobs J] [--seeds A..B] [--only PREFIX] [--quick] [--report]

Draws a sample of mutants (the same one for the same seed and the same sources), compiles each into
one object, links it before the rooms' archives into the unit and golden tests that use its room, and
runs those until one fails; then what has survived so far in ferry-sim and the simulator's scenarios.
What none notices has survived, and is listed with its place. A mutant that compiles to the same
object is none.

    tests/mutation/mutate.py --sample 200 --seed 1     what survivors.md tells of; `make mutation`
    tests/mutation/mutate.py --quick --only fencing/   while one writes unit tests

Nothing is written into the source tree: all is in build-mutation/, where results*.jsonl keep what
has been run, so that an interrupted run goes on, and survivors are tried again when tests have
changed. Exits 1 if less than --floor per cent are killed.
"""
import argparse
import collections
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import resource
import shlex
import signal
import subprocess
import sys
import threading

ROOT = pathlib.Path(__file__).resolve().parents[2]
TREE = ROOT / "build-mutation"
QUICK, FULL = TREE / "results-quick.jsonl", TREE / "results.jsonl" # Unit tests; the simulator too.
WORDS = ROOT / "tests/mutation/survivors.md"
FOLDERS = ["agent/base", "agent/ports", "agent/core", "agent/cache", "agent/check", "agent/fault",
           "agent/transport", "fencing", "migrate", "proto"]
# Of the processor's time, some eight times what the longest takes: a busy machine kills no mutant.
UNIT_SECONDS_MAX = 8
SCENARIOS_SECONDS_MAX = 60
SEEDS_SECONDS_MAX = 60
SEEDS_FEW = 40 # They find most of what the simulator finds, and sooner than its scenarios.
MEMORY_BYTES_MAX = 4 << 30

# What is said to people, checked by the compiler or by the code itself, or a switch of the museum.
SKIPPED = re.compile(r'"|\bferry_assert|_Static_assert|FERRY_ASSERT|FERRY_MUSEUM|ferry_unreachable|'
                     r"\bemit\b|_emit|^\s*#|^\s*case\b|^\s*\*|^\s*//|^\s*/\*")
# For each operator: what to look for in a line, and what to put in its place.
OPERATORS = {
    "negate": [(r"(?<=\bif )\((.*)\)(?=( \{)?$)", r"(!(\1))")],
    "relation": [(r" < ", " <= "), (r" <= ", " < "), (r" > ", " >= "), (r" >= ", " > "),
                 (r" == ", " != "), (r" != ", " == ")],
    "boundary": [(r" \+ 1\b", " + 2"), (r" - 1\b", " - 2"), (r"\+\+;", " += 2;")],
    "logic": [(r" && ", " || "), (r" \|\| ", " && ")],
    "return": [(r"\breturn true;", "return false;"), (r"\breturn false;", "return true;"),
               (r"\breturn -E[A-Z]+;", "return 0;"), (r"\breturn NULL;", None)],
    "delete": [(r"^\t+[\w>.\[\]()*&-]+\([^;]*\);$", "\t;"),
               (r"^\t+[\w>.\[\]-]+(\+\+|--);$", "\t;"),
               (r"^\t+[\w>.\[\]-]*(->|\.)[\w>.\[\]-]+ [|&+-]?= [^;{]*;$", "\t;")],
}

Mutant = collections.namedtuple("Mutant", "path line operator before after")


def code_of(line):
    """The line without its comment."""
    return re.sub(r"\s*/\*.*?\*/\s*$", "", line)


def mutants_of(path):
    text = (ROOT / path).read_text().splitlines()
    is_comment = False
    for number, line in enumerate(text, 1):
        was_comment = is_comment
        is_comment = (is_comment or "/*" in line) and "*/" not in line.split("/*")[-1]
        code = code_of(line)
        # A table or a declaration at the margin is not code that runs.
        if was_comment or SKIPPED.search(line) or not code.startswith("\t"):
            continue
        for operator, rules in OPERATORS.items():
            for pattern, replacement in rules:
                if replacement is None:
                    continue
                for match in re.finditer(pattern, code):
                    after = code[:match.start()] + match.expand(replacement) + code[match.end():]
                    if after != code and not (operator == "delete" and
                                              is_declared(code)):
                        yield Mutant(path, number, operator, code, after)


def is_declared(code):
    """A call or an assignment that the line itself declares: it cannot go alone."""
    return re.match(r"\t+(const |static |struct |uint|int|bool|return|size_t)", code) is not None


def key_of(mutant):
    source = (ROOT / mutant.path).read_bytes()
    return hashlib.sha256(repr(mutant).encode() + source).hexdigest()[:16]


def tests_key():
    """Of all that a mutant may be found out by: a survivor of other tests is tried again."""
    key = hashlib.sha256()
    for folder in [*FOLDERS, "tests/sim", "tests/golden"]:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and (folder.startswith("tests") or "_test." in path.name or
                                   "_stand." in path.name):
                key.update(path.read_bytes())
    return key.hexdigest()[:16]


class Rig:
    """The unmutated build: how its objects are compiled and its tests are linked."""

    def __init__(self, seeds):
        self.seeds = seeds
        self.plain = {}
        self.commands = {}
        for entry in json.loads((TREE / "compile_commands.json").read_text()):
            arguments = shlex.split(entry["command"])
            source = pathlib.Path(entry["directory"], entry["file"]).resolve()
            if "-DFERRY_MUSEUM_BUILD" not in arguments and source.is_relative_to(ROOT):
                self.commands[str(source.relative_to(ROOT))] = arguments
        self.links = {}
        for command in run_out(["ninja", "-C", TREE, "-t", "commands"]).splitlines():
            match = re.search(r"(?:^|&& )(\S*(?:cc|gcc|clang)\S* .*-o (\S+) .*)", command)
            if match and " -c " not in match[1] and match[2].startswith(("tests/", "bin/")):
                self.links[match[2]] = shlex.split(match[1].split(" && ")[0])
        self.units = [p for p in self.links if p.startswith("tests/") and self.is_ours(p)]
        # What is compared with files: where they are.
        self.golden = {"tests/golden_test": [str(ROOT / "tests/golden/fencing")]}

    def is_ours(self, program):
        """A unit test of ranks 0-3: its own objects lie there."""
        return any(f"{folder}/CMakeFiles/" in argument for folder in FOLDERS
                   for argument in self.links[program]) and "adapters" not in " ".join(
                       a for a in self.links[program] if a.endswith(".o"))

    def archive(self, path):
        name = pathlib.Path(path).parent.name
        return f"libferry_{name}.a"

    def unit_tests(self, path):
        """(program, arguments, seconds), the file's own first."""
        uses = self.archive(path)
        units = [p for p in [*self.units, *self.golden] if p != "tests/sim_test" and
                 any(a.endswith(uses) for a in self.links.get(p, []))]
        stem = pathlib.Path(path).stem.split("_")[0]
        return [(p, self.golden.get(p, []), UNIT_SECONDS_MAX)
                for p in sorted(units, key=lambda p: (stem not in p, p)) if p in self.links]

    def simulator_tests(self):
        """The same, in the order of their cost."""
        first, last = (int(number) for number in self.seeds.split(".."))
        few = min(first + SEEDS_FEW - 1, last)
        yield "bin/ferry-sim", ["--seeds", f"{first}..{few}"], SEEDS_SECONDS_MAX
        yield "tests/sim_test", [], SCENARIOS_SECONDS_MAX
        if few < last:
            yield "bin/ferry-sim", ["--seeds", f"{few + 1}..{last}"], SEEDS_SECONDS_MAX

    def compile(self, path, source, target, more=()):
        arguments = list(self.commands[path])
        arguments[arguments.index("-o") + 1] = str(target)
        arguments[-1] = str(source) if arguments[-2] == "-c" else arguments[-1]
        arguments += [f"-ffile-prefix-map={source}={path}", "-Wno-error", "-w", *more]
        return subprocess.run(["nice", *arguments], cwd=TREE, capture_output=True).returncode == 0

    def link(self, program, extra, target):
        arguments = list(self.links[program])
        at = arguments.index("-o")
        arguments[at + 1] = str(target)
        first = next(i for i, a in enumerate(arguments) if a.endswith((".o", ".a")))
        arguments.insert(first, str(extra))
        done = subprocess.run(["nice", *arguments], cwd=TREE, capture_output=True)
        return done.returncode == 0


def run_out(arguments):
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout


def limits(seconds):
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def fails(program, arguments, seconds):
    """None if it passes; else why not."""
    environment = dict(os.environ, GLIBC_TUNABLES="glibc.malloc.hugetlb=1")
    done = subprocess.run(["nice", program, *arguments], cwd=TREE, env=environment,
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, preexec_fn=lambda: limits(seconds))
    if done.returncode in (-signal.SIGKILL, -signal.SIGXCPU):
        return "never ends"
    return None if done.returncode == 0 else f"exit {done.returncode}"


def check_whole(rig, is_quick):
    """What fails without a mutant would kill them all."""
    tests = {repr(test): test for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.c"))
             for test in rig.unit_tests(str(path.relative_to(ROOT)))}
    if not is_quick:
        tests.update((repr(test), test) for test in rig.simulator_tests())
    for program, arguments, seconds in tests.values():
        why = fails(TREE / program, arguments, seconds)
        if why:
            sys.exit(f"{program}: {why}, without any mutant")


def judge(rig, mutant, folder, is_quick):
    folder.mkdir(parents=True, exist_ok=True)
    lines = (ROOT / mutant.path).read_text().splitlines(keepends=True)
    source, changed = folder / "mutant.c", folder / "mutant.o"
    if mutant.path not in rig.plain:
        source.write_text("".join(lines))
        if not rig.compile(mutant.path, source, changed, ["-g0"]):
            raise RuntimeError(f"{mutant.path}: does not compile as it is")
        rig.plain[mutant.path] = changed.read_bytes()
    lines[mutant.line - 1] = mutant.after + "\n"
    source.write_text("".join(lines))
    if not rig.compile(mutant.path, source, changed, ["-g0"]):
        return {"verdict": "stillborn"}
    if changed.read_bytes() == rig.plain[mutant.path]:
        return {"verdict": "equivalent"}
    for program, arguments, seconds in (rig.unit_tests(mutant.path) if is_quick else
                                        rig.simulator_tests()):
        target = folder / pathlib.Path(program).name
        if not rig.link(program, changed, target):
            raise RuntimeError(f"{program}: does not link with {mutant.path}")
        why = fails(target, arguments, seconds)
        if why:
            return {"verdict": "killed", "by": pathlib.Path(program).name, "why": why}
    return {"verdict": "survived"}


def configure():
    subprocess.run(["cmake", "--preset", "plain", "-S", ROOT, "-B", TREE], check=True, cwd=ROOT,
                   stdout=subprocess.DEVNULL)


def build(rig):
    """What mutants are tried by, and what that needs."""
    programs = {*rig.units, *rig.golden, *(test[0] for test in rig.simulator_tests())}
    subprocess.run(["nice", "ninja", "-C", TREE, *sorted(programs)], check=True,
                   stdout=subprocess.DEVNULL)


def sample_draw(arguments):
    found = []
    only = tuple(arguments.only.split(","))
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).glob("*.c")):
            name = str(path.relative_to(ROOT))
            if name.startswith(only) and not name.endswith(("_test.c", "_stand.c")):
                found += mutants_of(name)
    return found, sorted(found, key=draw_key(arguments.seed))


def draw_key(seed):
    """By what they are, not by where: a change in one file leaves the others' draw as it was."""
    seen = collections.Counter()

    def key(mutant):
        text = repr((seed, mutant.path, mutant.operator, mutant.before, mutant.after))
        seen[text] += 1
        return hashlib.sha256(f"{text}{seen[text]}".encode()).hexdigest()
    return key


def text_of(mutant):
    return f"{mutant.before.strip()}  ->  {mutant.after.strip()}"


def words_read():
    """Why those that are known survive: two lines of survivors.md each, as they are printed."""
    words, known = {}, None
    for line in WORDS.read_text().splitlines() if WORDS.exists() else []:
        match = re.match(r"    (\S+):\d+: (.*)$", line)
        if match:
            known = (match[1], match[2])
        elif known and line.startswith("        "):
            words[known] = line.strip()
    return words


def report(drawn, results, arguments):
    counts = collections.Counter()
    killers = collections.Counter()
    survivors = []
    for mutant in drawn:
        result = results.get(key_of(mutant))
        if not result or counts["killed"] + counts["survived"] == arguments.sample:
            continue
        counts[result["verdict"]] += 1
        if result["verdict"] == "killed":
            killers[result["by"]] += 1
        if result["verdict"] == "survived":
            survivors.append(mutant)
    judged = counts["killed"] + counts["survived"]
    words = words_read()
    for mutant in sorted(survivors):
        print(f"{mutant.path}:{mutant.line}: {text_of(mutant)}\n"
              f"    {words.get((mutant.path, text_of(mutant)), 'no word on it in ' + WORDS.name)}")
    print(f"{counts['killed']} of {judged} killed"
          f" ({100 * counts['killed'] / max(judged, 1):.1f} %), {counts['survived']} survived;"
          f" {counts['equivalent']} equivalent and {counts['stillborn']} stillborn not counted")
    print("by: " + ", ".join(f"{name} {count}" for name, count in killers.most_common()))
    return 100 * counts["killed"] >= arguments.floor * judged


def results_read(log, tests):
    """What has been run; of survivors only those of these very tests."""
    results = {}
    for line in log.read_text().splitlines() if log.exists() else []:
        entry = json.loads(line)
        if entry["verdict"] != "survived" or entry.get("tests") == tests:
            results[entry["key"]] = entry
    return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", default="1..200", help="of ferry-sim")
    parser.add_argument("--only", default="", help="files whose names begin so: PREFIX,...")
    parser.add_argument("--quick", action="store_true", help="unit and golden tests only")
    parser.add_argument("--floor", type=float, default=90)
    parser.add_argument("--report", action="store_true", help="of what has been run; run nothing")
    arguments = parser.parse_args()
    found, drawn = sample_draw(arguments)
    print(f"{len(found)} mutants in ranks 0-3, seed {arguments.seed}", flush=True)
    tests = tests_key()
    if not arguments.report:
        configure()
        rig = Rig(arguments.seeds)
        build(rig)
        check_whole(rig, arguments.quick)
        work(rig, drawn, tests, arguments, is_quick=True)
        if not arguments.quick:
            work(rig, drawn, tests, arguments, is_quick=False)
    results = results_read(QUICK, tests)
    if not arguments.quick:
        results.update(results_read(FULL, tests))
    return 0 if report(drawn, results, arguments) else 1


def work(rig, drawn, tests, arguments, is_quick):
    """The unit tests of all the sample, or the simulator for what they have let live."""
    log = QUICK if is_quick else FULL
    results = {key: entry for key, entry in results_read(QUICK, tests).items()
               if is_quick or entry["verdict"] != "survived"}
    results.update(results_read(FULL, tests) if not is_quick else {})
    lock = threading.Lock()
    waiting = iter(drawn)
    judged = 0

    def one(number):
        nonlocal judged
        while True:
            with lock:
                if judged >= arguments.sample:
                    return
                mutant = next(waiting, None)
                if mutant is None:
                    return
                judged += 1
            key = key_of(mutant)
            if key not in results:
                result = judge(rig, mutant, TREE / f"job{number}", is_quick)
                with lock:
                    results[key] = {"key": key, "tests": tests, **mutant._asdict(), **result}
                    with open(log, "a", encoding="utf-8") as to:
                        to.write(json.dumps(results[key]) + "\n")
                    print(f"{result['verdict']:10} {result.get('by', ''):22} {mutant.path}:"
                          f"{mutant.line} {mutant.operator}", flush=True)
            if results[key]["verdict"] in ("equivalent", "stillborn"):
                with lock:
                    judged -= 1 # Another in its place.

    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for future in [pool.submit(one, i) for i in range(arguments.jobs)]:
            future.result()


if __name__ == "__main__":
    sys.exit(main())
