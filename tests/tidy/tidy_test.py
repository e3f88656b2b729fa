#!/usr/bin/env python3
"""tidy_test.py - canaries: each rule of tidy.py must find what it is for, and nothing else.

Each canary is a small clean tree with one flaw added, in a folder of its own.
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tidy  # noqa: E402

BLOCK = """/*
 * NAME - a canary.
 *
 * Owns:    nothing.
 * Callers: nobody.
 * Thread:  any.
 * Rooms:   none.
 */
#pragma once

"""
CLEAN = {
    "CMakeLists.txt": "add_library(x base.c volume.c device.c main.c)\n",
    "agent/base/base.h": BLOCK.replace("NAME", "base.h") + "int ferry_base(int value);\n",
    "agent/base/base.c": '#include "agent/base/base.h"\n\n#include <string.h>\n\n'
                         "int ferry_base(int value)\n{\n\tchar text[64];\n\n"
                         "\tmemset(text, value, sizeof(text));\n\treturn text[value & 63];\n}\n",
    "agent/core/volume.h": BLOCK.replace("NAME", "volume.h") + "int ferry_volume(int value);\n",
    "agent/core/volume.c": '#include "agent/core/volume.h"\n\n#include "agent/base/base.h"\n\n'
                           "static const char *const names[] = {\"a\", \"b\"};\n\n"
                           "int ferry_volume(int value)\n{\n"
                           "\treturn ferry_base(value) + *names[value & 1];\n}\n",
    "agent/adapters/uring/device.h": BLOCK.replace("NAME", "device.h") + "int ferry_dev(void);\n",
    "agent/adapters/uring/device.c": '#include "agent/adapters/uring/device.h"\n\n'
                                     "#include <unistd.h>\n\n"
                                     "int ferry_dev(void)\n{\n\treturn getppid();\n}\n",
    "agent/main.c": '#include "agent/adapters/uring/device.h"\n#include "agent/core/volume.h"\n\n'
                    "int main(void)\n{\n\treturn ferry_volume(ferry_dev());\n}\n",
}
HERE = pathlib.Path(__file__).parent


class Canaries(unittest.TestCase):
    def setUp(self):
        # pylint: disable=consider-using-with
        self.folder = tempfile.TemporaryDirectory(prefix="ferry-tidy-")
        self.root = pathlib.Path(self.folder.name)
        self.write(".clang-format", (HERE.parents[1] / ".clang-format").read_text())
        self.write("tests/tidy/allowed-symbols.txt", (HERE / "allowed-symbols.txt").read_text())
        for path, text in CLEAN.items():
            self.write(path, text)

    def tearDown(self):
        self.folder.cleanup()

    def write(self, path, text):
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def add(self, path, text):
        """Add to the end of a file of the clean tree."""
        self.write(path, (self.root / path).read_text() + text)

    def include(self, path, name):
        self.write(path, f"#include {name}\n" + (self.root / path).read_text())

    def compile(self):
        entries = []
        for path in sorted(self.root.rglob("*.c")):
            source = str(path.relative_to(self.root))
            output = self.root / "build" / (source + ".o")
            output.parent.mkdir(parents=True, exist_ok=True)
            command = ["cc", "-O1", "-fPIE", "-I", str(self.root), "-o", str(output), "-c", source]
            subprocess.run(command, check=True, cwd=self.root)
            entries.append({"directory": str(self.root), "file": source,
                            "command": " ".join(command)})
        self.write("build/compile_commands.json", json.dumps(entries))

    def findings(self, rule):
        if rule in ("purity", "header"):
            self.compile()
        return tidy.check(tidy.Tree(self.root, self.root / "build"), [rule])

    def assert_clean(self, *rules):
        for rule in rules:
            self.assertEqual(self.findings(rule), [])

    def assert_found(self, rule, path, words):
        """Exactly one finding, of this rule, at this file, for this reason."""
        findings = self.findings(rule)
        self.assertEqual([finding.path for finding in findings], [path], findings)
        self.assertIn(words, findings[0].text)

    def test_clean_tree(self):
        self.assert_clean(*tidy.RULES)

    # include

    def test_base_includes_core(self):
        self.include("agent/base/base.c", '"agent/core/volume.h"')
        self.assert_found("include", "agent/base/base.c", "rank 2 from rank 0")

    def test_core_includes_adapter(self):
        self.include("agent/core/volume.c", '"agent/adapters/uring/device.h"')
        self.assert_found("include", "agent/core/volume.c", "rank 4 from rank 2")

    def test_adapter_includes_core(self):
        self.include("agent/adapters/uring/device.c", '"agent/core/volume.h"')
        self.assert_found("include", "agent/adapters/uring/device.c", "ranks 0 and 1 only")

    def test_adapter_includes_adapter(self):
        self.write("agent/adapters/nbd/nbd.c", '#include "agent/adapters/uring/device.h"\n')
        self.assert_found("include", "agent/adapters/nbd/nbd.c", "no other adapter")

    def test_common_includes_adapter(self):
        self.write("agent/adapters/common/line.c", '#include "agent/adapters/uring/device.h"\n')
        self.assert_found("include", "agent/adapters/common/line.c", "no other adapter")

    def test_fencing_includes_migrate(self):
        self.write("fencing/own.c", '#include "migrate/decide.h"\n')
        self.assert_found("include", "fencing/own.c", "never include each other")

    def test_relative_include(self):
        self.include("agent/core/volume.c", '"volume.h"')
        self.assert_found("include", "agent/core/volume.c", "path from the root")

    def test_foreign_library_in_another_adapter(self):
        self.include("agent/adapters/uring/device.c", "<iscsi/iscsi.h>")
        self.assert_found("include", "agent/adapters/uring/device.c", "agent/adapters/iscsi/")

    def test_foreign_library_in_main(self):
        self.include("agent/main.c", "<qb/qbloop.h>")
        self.assert_found("include", "agent/main.c", "agent/adapters/qb/")

    def test_isal_beside_checksum(self):
        self.include("agent/base/base.c", "<isa-l/crc.h>")
        self.assert_found("include", "agent/base/base.c", "agent/base/checksum.c")

    def test_generated_header_in_core(self):
        self.include("agent/core/volume.c", '"ferry.pb-c.h"')
        self.assert_found("include", "agent/core/volume.c", "agent/adapters/grpc/")

    def test_unknown_library(self):
        self.include("agent/adapters/uring/device.c", "<sodium.h>")
        self.assert_found("include", "agent/adapters/uring/device.c", "unknown library")

    def test_clock_in_core(self):
        self.include("agent/core/volume.c", "<time.h>")
        self.assert_found("include", "agent/core/volume.c", "pure headers")

    def test_tests_may_include_all(self):
        self.write("agent/core/volume_test.c",
                   '#include <cmocka.h>\n#include "agent/adapters/uring/device.h"\n')
        self.assert_clean("include")

    # length

    def test_long_line(self):
        self.add("agent/main.c", "/*\t" + "x" * 91 + "*/\n")
        self.assert_found("length", "agent/main.c", "101 columns")

    def test_long_function(self):
        self.add("agent/main.c", "\nint longer(void)\n{\n" + "\t;\n" * 68 + "}\n")
        self.assert_found("length", "agent/main.c", "longer() has 71 lines")

    def test_function_of_seventy_lines(self):
        self.add("agent/main.c", "\nint longest(void)\n{\n" + "\t;\n" * 67 + "}\n")
        self.assert_clean("length")

    # purity

    def test_malloc(self):
        self.add("agent/core/volume.c", "void *malloc(unsigned long);\nvoid *ferry_take(void);\n"
                 "void *ferry_take(void)\n{\n\treturn malloc(4);\n}\n")
        self.assert_found("purity", "agent/core/volume.c", "calls malloc")

    def test_clock_without_its_header(self):
        self.add("agent/core/volume.c", "int clock_gettime(int, void *);\n"
                 "int ferry_now(void *t)\n{\n\treturn clock_gettime(1, t);\n}\n")
        self.assert_found("purity", "agent/core/volume.c", "calls clock_gettime")

    def test_call_of_a_higher_rank(self):
        self.add("agent/base/base.c", "int ferry_volume(int);\n"
                 "int ferry_up(void)\n{\n\treturn ferry_volume(1);\n}\n")
        self.assert_found("purity", "agent/base/base.c", "calls ferry_volume")

    def test_abort_elsewhere(self):
        self.add("agent/core/volume.c", "void abort(void);\n"
                 "void ferry_end(void)\n{\n\tabort();\n}\n")
        self.assert_found("purity", "agent/core/volume.c", "calls abort")

    def test_global(self):
        self.add("agent/core/volume.c", "int ferry_count = 3;\n")
        self.assert_found("purity", "agent/core/volume.c", "ferry_count: a global")

    def test_hidden_global(self):
        self.add("agent/core/volume.c", "int ferry_next(void)\n{\n\tstatic int counter;\n\n"
                 "\treturn ++counter;\n}\n")
        self.assert_found("purity", "agent/core/volume.c", "counter")

    def test_thread_local(self):
        self.add("agent/core/volume.c", "__thread int ferry_mine;\n")
        self.assert_found("purity", "agent/core/volume.c", "ferry_mine: a global")

    def test_object_is_missing(self):
        self.compile()
        (self.root / "build/agent/base/base.c.o").unlink()
        findings = tidy.check(tidy.Tree(self.root, self.root / "build"), ["purity"])
        self.assertIn("is not built", findings[0].text)

    # header

    def test_header_leans_on_others(self):
        self.add("agent/core/volume.h", "uint32_t ferry_size(void);\n")
        self.write("agent/core/volume.c", "#include <stdint.h>\n" + CLEAN["agent/core/volume.c"])
        self.write("agent/main.c", "#include <stdint.h>\n" + CLEAN["agent/main.c"])
        findings = self.findings("header")
        self.assertEqual([finding.path for finding in findings], ["agent/core/volume.h"] * 2)
        self.assertIn("gcc", findings[0].text)
        self.assertIn("clang", findings[1].text)

    # format

    def test_format(self):
        self.add("agent/main.c", "\nint  spaced(void);\n")
        self.assert_found("format", "agent/main.c", "clang-format")

    # banned

    def test_banned_functions(self):
        for name, why in tidy.BANNED_C.items():
            with self.subTest(name):
                self.write("agent/main.c", f"\tx = {name}(y);\n")
                self.assert_found("banned", "agent/main.c", why)

    def test_names_that_only_look_like_it(self):
        self.write("agent/main.c", "\tgmtime_r(a, b);\n\tferry_atoi(c); /* not atoi(c) */\n"
                                   '\tputs("sprintf(x)");\n\tvsnprintf(d);\n')
        self.write("tests/run.sh", "mktemp -d /tmp/ferry.XXXXXX\nsleep 0.1\nsleep infinity\n"
                   "ls $dir/work/upper\n")
        self.assert_clean("banned")

    def test_sleeps(self):
        for path, text in (("tests/cluster/a.sh", "sleep 1"), ("tests/b.py", "time.sleep(2.5)"),
                           ("agent/core/c_test.c", "usleep(900000);"),
                           ("deploy/lab/d.sh", "sleep 30")):
            with self.subTest(path):
                self.write(path, text + "\n")
                self.assert_found("banned", path, "wait for a condition")
                (self.root / path).unlink()

    def test_marks_and_places(self):
        for text in ("# TO" + "DO: later", "cd /wo" + "rk/main", "cd /ho" + "me/me/src"):
            with self.subTest(text):
                self.write("deploy/a.sh", text + "\n")
                self.assertEqual(len(self.findings("banned")), 1)

    def test_allowed_line(self):
        self.write("tests/a.sh", "sleep 5 # tidy: allow banned - the target's own grace time\n")
        self.assert_clean("banned")
        self.write("tests/a.sh", "sleep 5 # tidy: allow banned\n")
        self.assert_found("banned", "tests/a.sh", "wait for a condition")

    # block

    def test_block_lacks_thread(self):
        text = CLEAN["agent/core/volume.h"].replace(" * Thread:  any.\n", "")
        self.write("agent/core/volume.h", text)
        self.assert_found("block", "agent/core/volume.h", "Thread:")

    def test_block_of_another_file(self):
        text = CLEAN["agent/core/volume.h"].replace("volume.h -", "lun.h -")
        self.write("agent/core/volume.h", text)
        self.assert_found("block", "agent/core/volume.h", "volume.h - ")

    # dead

    def test_source_in_no_list(self):
        self.write("agent/core/lost.c", "int ferry_lost;\n")
        self.assert_found("dead", "agent/core/lost.c", "no CMakeLists.txt")

    def test_source_that_the_lab_builds(self):
        self.write("deploy/lab/probe.c", "")
        self.assert_found("dead", "deploy/lab/probe.c", "no CMakeLists.txt")
        self.write("deploy/lab/lab", "#!/bin/bash\ncc -o probe probe.c\n")
        self.assert_clean("dead")

    def test_header_of_nobody(self):
        self.write("agent/core/lost.h", BLOCK)
        self.assert_found("dead", "agent/core/lost.h", "nobody includes it")

    def test_list_of_the_folder_and_loops(self):
        self.write("agent/core/CMakeLists.txt",
                   "foreach(test router)\n\tferry_unit_test(${test}_test SOURCES "
                   "${test}_test.c)\nendforeach()\nferry_room(c SOURCES found.c)\n")
        self.write("agent/core/found.c", "")
        self.write("agent/core/router_test.c", "")
        self.assert_clean("dead")


if __name__ == "__main__":
    unittest.main()
