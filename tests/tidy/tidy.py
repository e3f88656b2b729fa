#!/usr/bin/env python3
"""tidy.py - the rules of docs/architecture.md that a machine can check.

    tidy.py [--root DIR] [--build DIR] [RULE...]

Without RULE it checks all of them. Prints one line per finding, file:line: rule: what; exits 0
when there is none, 1 when there are some, 2 when it could not look. A line that has to break a
rule says so and why: `tidy: allow RULE - because`.
"""
import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

COLUMNS_MAX = 100 # Of C.
SCRIPT_COLUMNS_MAX = 132
FUNCTION_LINES_MAX = 70
SELF = "tests/tidy/"

# Folder, rank; the longest match counts. What is not listed is rank 5.
RANKS = [
    ("agent/base", 0),
    ("agent/ports", 1), ("proto", 1),
    ("agent/core", 2), ("agent/cache", 2), ("agent/check", 2), ("agent/fault", 2), ("agent/map", 2),
    ("agent/transport", 2),
    ("fencing", 3), ("migrate", 3),
    ("agent/adapters", 4),
]
RANK_CONTRACTS = 1
RANK_PURE_MAX = 3
RANK_ADAPTER = 4
RANK_TOP = 5
COMMON = "agent/adapters/common"  # What several adapters need: it includes ranks 0 and 1 only.

# Foreign headers (as a regular expression on what is between < and >) and the one place, rarely
# two, that may include them. Tests may include all.
FOREIGN = [
    (r"isa-l/|isa-l\.h", ["agent/base/checksum.c"]),
    (r"protobuf-c/", ["proto/", "agent/adapters/grpc/", "agent/cli/"]),
    (r"json-c/", ["agent/cli/"]),
    (r"grpc/", ["agent/adapters/grpc/"]),
    (r"liburing", ["agent/adapters/uring/"]),
    (r"iscsi/", ["agent/adapters/iscsi/"]),
    (r"fuse", ["agent/adapters/fuse/"]),
    (r"openssl/", ["agent/adapters/openssl/"]),
    (r"qb/", ["agent/adapters/qb/"]),
    (r"corosync/", ["agent/adapters/corosync/"]),
    (r"pacemaker|crm/|libxml/", ["agent/adapters/pacemaker/"]),
    (r"ini\.h", ["agent/adapters/inifile/"]),
    (r"linux/ublk_cmd", ["agent/adapters/ublk/"]),
    (r"netlink/", ["agent/adapters/nbddev/"]),
    (r"infiniband/|rdma/", ["agent/adapters/verbs/"]),
    (r"cmocka\.h|libnbd\.h", []),
]
LIBC_PURE = set("""assert ctype endian errno inttypes limits stdalign stdarg stdatomic stdbool
    stddef stdint stdio stdlib string""".split())
LIBC = LIBC_PURE | set("""byteswap dirent dlfcn err fcntl fnmatch getopt glob grp ifaddrs libgen
    locale malloc math mntent netdb paths poll pthread pwd sched semaphore setjmp signal spawn
    strings syslog termios threads time unistd wait wchar""".split())
LIBC_FOLDERS = ("sys/", "linux/", "net/", "netinet/", "arpa/", "asm/", "scsi/", "bits/")

BANNED_C = {
    "gmtime": "not safe with threads: gmtime_r",
    "localtime": "not safe with threads: localtime_r",
    "strtok": "not safe with threads: strtok_r",
    "strcpy": "no bound: memcpy or snprintf",
    "strcat": "no bound: snprintf",
    "sprintf": "no bound: snprintf",
    "vsprintf": "no bound: vsnprintf",
    "gets": "no bound",
    "atoi": "no errors: strtoul and its checks",
    "atol": "no errors: strtoul and its checks",
}
# A loop that waits for a condition sleeps for less than this; longer is a guess at how long.
SLEEP_SECONDS_MAX = 0.5
SLEEP = re.compile(r"\b(?:sleep\s*\(?|usleep\s*\()\s*([0-9]+(?:\.[0-9]+)?)")
MARKS = re.compile(r"\b(TODO|FIXME|XXX)\b")
PLACES = re.compile(r"(?<![\w)}\]])/(?:work|home)/\w|/tmp/w/|/\.pyenv|"
                    r"https?://[\w.-]*(?:registry|deb\.debian)")

Finding = collections.namedtuple("Finding", "path line rule text")


class Tree:
    """The files under one root, read once, and the objects of one build."""

    def __init__(self, root, build):
        self.root = pathlib.Path(root).resolve()
        self.build = pathlib.Path(build).resolve() if build else None
        self.texts = {}
        for folder, folders, names in os.walk(self.root):
            folders[:] = sorted(f for f in folders if f != ".git" and not self.is_build(folder, f))
            for name in sorted(names):
                path = pathlib.Path(folder, name)
                if path.is_symlink() or name == ".git":
                    continue
                try:
                    text = path.read_text(encoding="utf-8")
                except UnicodeDecodeError:
                    continue
                self.texts[str(path.relative_to(self.root))] = text

    def is_build(self, folder, name):
        return (pathlib.Path(folder) == self.root and re.fullmatch(r"build(-.*)?", name)) or (
            name == "__pycache__")

    def files(self, *suffixes):
        return [path for path in self.texts if path.endswith(suffixes)]

    def lines(self, path):
        return enumerate(self.texts[path].splitlines(), 1)

    def commands(self):
        """compile_commands.json as {path in the root or the build: (arguments, object)}."""
        found = {}
        for entry in json.loads((self.build / "compile_commands.json").read_text()):
            source = pathlib.Path(entry["directory"], entry["file"]).resolve()
            arguments = shlex.split(entry["command"])
            if "-DFERRY_MUSEUM_BUILD" in arguments:
                continue # The museum's copy, which has a global.
            output = pathlib.Path(entry["directory"], arguments[arguments.index("-o") + 1])
            base = self.build if source.is_relative_to(self.build) else self.root
            if source.is_relative_to(base):
                found[str(source.relative_to(base))] = (arguments, output)
        return found


def is_test(path):
    """Also a stand or a bench: a program beside an adapter's sources, for tests or figures."""
    return path.startswith("tests/") or path.endswith(
        ("_test.c", "_stand.c", "_stand.h", "_bench.c"))


def rank_of(path):
    if is_test(path):
        return RANK_TOP
    ranks = [(len(folder), rank) for folder, rank in RANKS if path.startswith(folder + "/")]
    return max(ranks)[1] if ranks else RANK_TOP


def room_of(path):
    """What may not include its neighbours: an adapter's folder, or fencing and migrate."""
    parts = path.split("/")
    return "/".join(parts[:3]) if path.startswith("agent/adapters/") else parts[0]


def rule_include(tree):
    """A room includes its own and lower ranks; a foreign library is named in one adapter."""
    for path in tree.files(".c", ".h"):
        for line, text in tree.lines(path):
            match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', text)
            if not match or is_test(path):
                continue
            name = match[2]
            wrong = own_include(path, name) if match[1] == '"' else foreign_include(path, name)
            if wrong:
                yield Finding(path, line, "include", f"{name}: {wrong}")


def own_include(path, name):
    rank, other = rank_of(path), rank_of(name)
    if name.endswith(".pb-c.h"):  # Generated, in no folder of ours.
        return foreign_include(path, "protobuf-c/")
    if "/" not in name:
        return "write the path from the root"
    if is_test(name):
        return "only tests include tests"
    if rank == RANK_ADAPTER and other == RANK_ADAPTER and room_of(name) not in (room_of(path),
                                                                                 COMMON):
        return "an adapter includes no other adapter"
    if rank == RANK_ADAPTER and other in (2, 3):
        return "an adapter includes ranks 0 and 1 only"
    if rank == 3 and other == 3 and room_of(path) != room_of(name):
        return "fencing and migrate never include each other"
    if other > rank:
        return f"rank {other} from rank {rank}"
    return None


def foreign_include(path, name):
    for pattern, owners in FOREIGN:
        if re.match(pattern, name):
            if any(path.startswith(owner) for owner in owners):
                return None
            return "this library is only for " + (" and ".join(owners) or "tests")
    stem = name.removesuffix(".h")
    if rank_of(path) <= RANK_PURE_MAX:
        return None if stem in LIBC_PURE else "not one of libc's pure headers (ranks 0-3)"
    if stem in LIBC or name.startswith(LIBC_FOLDERS):
        return None
    return "unknown library: name its owner in FOREIGN of tests/tidy/tidy.py"


def rule_length(tree):
    """Functions of at most 70 lines, lines of at most 100 columns; of scripts, 132."""
    for path in tree.files(".c", ".h", ".py", ".sh", ".cmake", "CMakeLists.txt"):
        limit = COLUMNS_MAX if path.endswith((".c", ".h")) else SCRIPT_COLUMNS_MAX
        for line, text in tree.lines(path):
            width = len(text.expandtabs(8))
            if width > limit:
                yield Finding(path, line, "length", f"{width} columns")
    sources = tree.files(".c", ".h")
    command = ["ctags", "--output-format=json", "--fields=+ne", "--kinds-C=f", "--languages=C",
               "--langmap=C:.c.h", "-L", "-", "-f", "-"]
    listing = run(command, tree.root, stdin="\n".join(sources))
    for tag in map(json.loads, listing.splitlines()):
        lines = tag.get("end", tag["line"]) - tag["line"] + 1
        if lines > FUNCTION_LINES_MAX:
            yield Finding(tag["path"], tag["line"], "length", f"{tag['name']}() has {lines} lines")


def read_allowed(tree):
    allowed = []
    for _, text in tree.lines("tests/tidy/allowed-symbols.txt"):
        words = text.split("#")[0].split()
        if words:
            pattern = re.escape(words[0]).replace(r"\*", ".*")
            allowed.append((re.compile(pattern), words[1] if len(words) > 1 else ""))
    return allowed


def rule_purity(tree):
    """Ranks 0-3 call nothing but each other and an allow-list, and own no writable globals."""
    objects = {path: output for path, (_, output) in tree.commands().items()
               if rank_of(path) <= RANK_PURE_MAX}
    missing = [path for path, output in objects.items() if not output.exists()]
    for path in missing:
        yield Finding(path, 1, "purity", "is not built: no symbols to look at")
    symbols = {path: object_symbols(output) for path, output in objects.items()
               if path not in missing}
    defined_at = {}
    for path, (defined, _, _) in symbols.items():
        for name in defined:
            defined_at[name] = min(rank_of(path), defined_at.get(name, RANK_TOP))
    allowed = read_allowed(tree)
    for path, (_, undefined, writable) in symbols.items():
        for name in sorted(undefined):
            if defined_at.get(name, RANK_TOP) <= rank_of(path) or any(
                    pattern.fullmatch(name) and path.startswith(only)
                    for pattern, only in allowed):
                continue
            yield Finding(path, 1, "purity", f"calls {name}: not in allowed-symbols.txt")
        for name in sorted(writable):
            yield Finding(path, 1, "purity", f"{name}: a global that can be written")


def object_symbols(path):
    """Defined, undefined and writable symbols of an object, by `objdump -t`."""
    defined, undefined, writable = set(), set(), set()
    for text in run(["objdump", "-t", "-w", str(path)]).splitlines():
        match = re.match(r"[0-9a-f]{16} (.{7}) (\S+)\s+[0-9a-f]+\s+(?:\.hidden )?(\S+)$", text)
        if not match:
            continue
        flags, section, name = match.groups()
        if section == "*UND*":
            undefined.add(name)
        elif "d" not in flags[5:6] and "f" not in flags[6:]:
            defined.add(name)
            # Tables of pointers are const, though relocated at start: .data.rel.ro.
            if section == "*COM*" or (re.match(r"\.(data|bss|tdata|tbss)\b", section)
                                      and not section.startswith(".data.rel.ro")):
                writable.add(name)
    return defined, undefined, writable


def rule_header(tree):
    """Each header compiles alone, with gcc and with clang, under the flags of its folder."""
    commands = tree.commands()
    jobs = [(compiler, path, flags_for(path, commands))
            for path in tree.files(".h") for compiler in ("gcc", "clang")]
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for job, error in zip(jobs, pool.map(lambda job: compile_alone(tree, *job), jobs)):
            if error:
                yield Finding(job[1], 1, "header", f"does not compile alone ({job[0]}): {error}")


def flags_for(path, commands):
    """The flags of a source of the header's folder or, failing that, of any folder above."""
    folder = os.path.dirname(path)
    while True:
        for source in sorted(commands):
            if folder == "" or source.startswith(folder + "/"):
                return [word for word in commands[source][0][1:-4] if word != "-fanalyzer"]
        folder = os.path.dirname(folder)


def compile_alone(tree, compiler, path, flags):
    done = subprocess.run(
        [compiler, *flags, "-Werror", "-fsyntax-only", "-I", str(tree.root), "-x", "c", "-"],
        input=f'#include "{path}"\n', capture_output=True, text=True, cwd=tree.root, check=False)
    if done.returncode == 0:
        return None
    errors = [text for text in done.stderr.splitlines() if "error" in text]
    return (errors or done.stderr.splitlines() or ["?"])[0]


def rule_format(tree):
    """clang-format has nothing to change."""
    sources = tree.files(".c", ".h")
    if not sources:
        return
    done = subprocess.run(["clang-format", "--dry-run", "-ferror-limit=0", "-Werror", *sources],
                          capture_output=True, text=True, cwd=tree.root, check=False)
    seen = set()
    for match in re.finditer(r"^(\S+?):(\d+):\d+: error: ", done.stderr, re.M):
        if match[1] not in seen:
            seen.add(match[1])
            yield Finding(match[1], int(match[2]), "format", "run clang-format -i on it")
    if done.returncode != 0 and not seen:
        raise RuntimeError(f"clang-format: {done.stderr}")


def rule_banned(tree):
    """No guessing sleeps in tests, unsafe functions, paths of one machine, marks of half work."""
    for path in tree.texts:
        if path.startswith(SELF):
            continue
        for line, text in tree.lines(path):
            for wrong in banned_in(path, text):
                yield Finding(path, line, "banned", wrong)


def banned_in(path, text):
    if MARKS.search(text):
        yield "do it, or file it; no marks in the code"
    if PLACES.search(text):
        yield "a path or host of one machine"
    if path.endswith((".c", ".h")):
        code = re.sub(r'"(?:\\.|[^"\\])*"|/\*.*?(?:\*/|$)|//.*|^\s*\*.*', "", text)
        for name, why in BANNED_C.items():
            if re.search(rf"\b{name}\s*\(", code):
                yield f"{name}: {why}"
    if is_test(path) or path.startswith("deploy/"):
        match = SLEEP.search(text)
        if match:
            seconds = float(match[1]) / (1e6 if "usleep" in match[0] else 1)
            if seconds >= SLEEP_SECONDS_MAX:
                yield "wait for a condition, with a deadline; do not guess how long it takes"


def rule_block(tree):
    """Each header opens with its name and says Owns, Callers, Thread, Rooms."""
    for path in tree.files(".h"):
        text = tree.texts[path]
        end = text.find("*/")
        opening = text[:end] if text.startswith("/*") else ""
        name = os.path.basename(path)
        if f" * {name} - " not in opening:
            yield Finding(path, 1, "block", f"does not open with a comment '{name} - …'")
        for word in ("Owns:", "Callers:", "Thread:", "Rooms:"):
            if f" * {word}" not in opening:
                yield Finding(path, 1, "block", f"the opening comment does not say {word}")


def rule_dead(tree):
    """Each .c is named by a CMakeLists.txt of its folder or above; each .h is included, except
    contracts (rank 1), which may be there before the code that fulfils them."""
    lists = {os.path.dirname(path): tree.texts[path] for path in tree.files("CMakeLists.txt")}
    # What only the lab uses is built by the lab.
    lists["deploy"] = "".join(text for path, text in tree.texts.items()
                              if path.startswith("deploy/") and not path.endswith(".c"))
    included = set()
    for path in tree.files(".c", ".h"):
        included.update(re.findall(r'#\s*include\s*"([^"]+)"', tree.texts[path]))
    for path in tree.files(".c"):
        folder, stem = os.path.dirname(path), pathlib.Path(path).stem
        # foreach(test a b) SOURCES ${test}_test.c names a_test.c; likewise a_fuzz.c.
        first, _, kind = stem.rpartition("_")
        named = re.compile(rf"\b{re.escape(stem)}\.c\b|\b{re.escape(first)}\b"
                           rf"(?=[^()]*\)[^)]*\}}_{kind}\.c)")
        while not named.search(lists.get(folder, "")):
            if not folder:
                yield Finding(path, 1, "dead", "no CMakeLists.txt names it")
                break
            folder = os.path.dirname(folder)
    for path in tree.files(".h"):
        if path not in included and rank_of(path) != RANK_CONTRACTS:
            yield Finding(path, 1, "dead", "nobody includes it")


RULES = {
    "include": rule_include, "length": rule_length, "purity": rule_purity, "header": rule_header,
    "format": rule_format, "banned": rule_banned, "block": rule_block, "dead": rule_dead,
}


def run(command, folder=None, stdin=None):
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=folder,
                          check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def is_allowed(tree, finding):
    """`tidy: allow RULE - because` on the line itself."""
    lines = tree.texts.get(finding.path, "").splitlines()
    if not 0 < finding.line <= len(lines):
        return False
    return re.search(rf"tidy: allow {finding.rule} - \w+", lines[finding.line - 1]) is not None


def check(tree, names):
    return [finding for name in names for finding in RULES[name](tree)
            if not is_allowed(tree, finding)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default=pathlib.Path(__file__).resolve().parents[2])
    parser.add_argument("--build", help="the plain preset's tree (default: ROOT/build)")
    parser.add_argument("rules", nargs="*", metavar="RULE", help=", ".join(RULES))
    arguments = parser.parse_args()
    unknown = [name for name in arguments.rules if name not in RULES]
    if unknown:
        parser.error(f"no such rule: {unknown[0]}; there are {', '.join(RULES)}")
    try:
        tree = Tree(arguments.root, arguments.build or pathlib.Path(arguments.root, "build"))
        findings = check(tree, arguments.rules or RULES)
    except (OSError, RuntimeError, ValueError) as error:
        print(f"tidy: cannot look: {error}", file=sys.stderr)
        return 2
    for finding in findings:
        print(f"{finding.path}:{finding.line}: {finding.rule}: {finding.text}")
    print(f"tidy: {len(tree.files('.c', '.h'))} C files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
