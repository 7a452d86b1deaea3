"""Tests of the tools: that each check finds what it is there to find, and that run_tests counts what happened."""

import importlib.machinery
import importlib.util
import json
import os
import pathlib
import stat
import subprocess
import sys
import tempfile
import unittest

TOOLS = pathlib.Path(__file__).resolve().parent


def load(name):
    """A tool as a module; the tools have no .py at their end."""
    sys.dont_write_bytecode = True
    loader = importlib.machinery.SourceFileLoader(name, str(TOOLS / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


check_layers = load("check_layers")
check_text = load("check_text")

LAYERS = "set(ETL_LAYERS\n base=0\n model=1 config=1\n postgres=2\n destination=4\n destination_duckdb=5 apply=5)\n"


class Tree(unittest.TestCase):
    """A small source tree in a temporary directory."""

    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.root = pathlib.Path(holder.name)
        self.write("cmake/EtlModule.cmake", LAYERS)
        self.write("src/base/status.h", "#pragma once\n")

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


class CheckLayers(Tree):
    def test_accepts_lower_layers_and_the_own_folder(self):
        self.write("src/model/position.h", '#pragma once\n#include "base/status.h"\n#include "model/other.h"\n')
        self.assertEqual(check_layers.check(self.root), [])

    def test_refuses_an_upward_include_with_its_line(self):
        self.write("src/base/clock.h", '#pragma once\n\n#include "model/position.h"\n')
        problems = check_layers.check(self.root)
        self.assertEqual(len(problems), 1)
        self.assertTrue(problems[0].startswith("src/base/clock.h:3: base (layer 0) may not include"), problems)

    def test_refuses_a_neighbour_but_not_from_a_test(self):
        self.write("src/apply/fold.cc", '#include "destination/duckdb/file.h"\n')
        self.write("src/apply/fold_test.cc", '#include "destination/duckdb/file.h"\n')
        problems = check_layers.check(self.root)
        self.assertEqual([problem.split(":")[0] for problem in problems], ["src/apply/fold.cc"])

    def test_refuses_an_upward_include_from_a_test_too(self):
        self.write("src/model/model_test.cc", '#include "apply/fold.h"\n')
        self.assertEqual(len(check_layers.check(self.root)), 1)

    def test_a_nested_folder_is_a_module_of_its_own(self):
        self.write("src/destination/destination.h", '#include "destination/duckdb/file.h"\n')
        self.write("src/destination/duckdb/file.cc", '#include "destination/destination.h"\n#include <duckdb.h>\n')
        problems = check_layers.check(self.root)
        self.assertEqual(len(problems), 1)
        self.assertIn("destination (layer 4) may not include", problems[0])

    def test_refuses_a_foreign_library_outside_its_folder(self):
        self.write("src/apply/fold.cc", "#include <duckdb.h>\n#include <libpq-fe.h>\n#include <yaml-cpp/yaml.h>\n")
        self.assertEqual(len(check_layers.check(self.root)), 3)

    def test_refuses_what_lies_beside_src(self):
        self.write("src/model/model_test.cc", '#include "tests/support/server.h"\n#include "../x.h"\n')
        self.assertEqual(len(check_layers.check(self.root)), 2)

    def test_refuses_paths_that_do_not_start_at_src(self):
        self.write("src/model/position.cc", '#include "position.h"\n')
        self.assertEqual(len(check_layers.check(self.root)), 1)

    def test_refuses_a_folder_without_a_layer(self):
        self.write("src/extra/extra.h", "#pragma once\n")
        self.assertIn("has no layer", check_layers.check(self.root)[0])

    def test_the_program_fails_when_it_finds_something(self):
        self.write("src/base/clock.h", '#include "model/position.h"\n')
        answer = subprocess.run([str(TOOLS / "check_layers"), str(self.root)], stdout=subprocess.PIPE, check=False)
        self.assertEqual(answer.returncode, 1)
        self.assertIn(b"src/base/clock.h:1:", answer.stdout)


class CheckText(Tree):
    def reasons(self, line):
        return list(check_text.check_line(line))

    def test_refuses_what_must_not_land(self):
        for line in ("// FIX" + "ME later", "// TO" + "DO: later", "// TO" + "DO(soon): x", "path = /ro" + "ot/x",
                     "cd /wo" + "rk/main", "https://py" + "pi.org/simple", "<" * 7 + " HEAD"):
            self.assertEqual(len(self.reasons(line)), 1, line)

    def test_accepts_ordinary_lines(self):
        for line in ("// TO" + "DO(perf): take the block size from the file", "as_root apt-get update", "$root/build/deps",
                     "/usr/lib/postgresql", "a / root of the tree", "${CMAKE_SOURCE_DIR}/work/x", "======="[:6]):
            self.assertEqual(self.reasons(line), [], line)

    def test_finds_trailing_blanks_and_a_missing_newline(self):
        path = self.write("docs/a.md", "one \ntwo")
        reasons = [problem.split(": ", 1)[1] for problem in check_text.check_file(path, "docs/a.md")]
        self.assertEqual(reasons, ["trailing blanks", "no newline at the end"])

    def test_asks_for_a_readme_in_every_module(self):
        self.write("src/base/CMakeLists.txt", "etl_module(NAME base)\n")
        self.write("src/model/CMakeLists.txt", "etl_module(NAME model)\n")
        self.write("src/model/README.md", "# model\n" * 21)
        problems = list(check_text.check_readmes(self.root))
        self.assertEqual([problem.split(":")[0] for problem in problems], ["src/base/README.md", "src/model/README.md"])

    def test_refuses_large_files(self):
        path = self.write("data.bin", "x" * (600 * 1024))
        self.assertEqual(len(list(check_text.check_file(path, "data.bin"))), 1)


# Stands in for a GoogleTest program: writes the report it is told to write, then ends as it is told.
FAKE = """#!{python}
import json, os, pathlib, signal, subprocess, sys, time
{body}
"""
REPORT = """
def report(**tests):
    path = next(a.split("json:")[1] for a in sys.argv if a.startswith("--gtest_output"))
    suite = [{"name": n, "status": "RUN", "result": "SKIPPED" if r == "skip" else "COMPLETED",
              **({"failures": [{"failure": "x"}]} if r == "bad" else {})} for n, r in tests.items()]
    pathlib.Path(path).write_text(json.dumps({"testsuites": [{"name": "S", "testsuite": suite}]}))
"""


class RunTests(Tree):
    def setUp(self):
        super().setUp()
        (self.root / "build" / "tests").mkdir(parents=True)
        self.names = []

    def program(self, name, body, built=True):
        path = self.root / "build" / "tests" / name
        self.names.append(name)
        if built:
            path.write_text(FAKE.format(python=sys.executable, body=REPORT + body))
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def run_tests(self, *arguments):
        lines = [f'add_test({name} "{self.root}/build/tests/{name}")' for name in self.names]
        (self.root / "build" / "CTestTestfile.cmake").write_text("\n".join(lines) + "\n")
        answer = subprocess.run([str(TOOLS / "run_tests"), str(self.root / "build"), "--only-programs", *arguments],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120)
        return answer.returncode, answer.stdout, answer.stdout.splitlines()[-1]

    def test_counts_what_passed(self):
        self.program("a_test", "report(one='good', two='good')")
        self.program("b_test", "report(one='good')")
        status, _, last = self.run_tests()
        self.assertEqual((status, last), (0, "3 passed, 0 failed"))

    def test_prints_the_output_of_a_failure(self):
        self.program("a_test", "print('the reason'); report(one='good', two='bad'); sys.exit(1)")
        status, output, last = self.run_tests()
        self.assertEqual((status, last), (1, "1 passed, 1 failed"))
        self.assertIn("    | the reason", output)
        self.assertIn("S.two", output)

    def test_a_skipped_test_has_not_passed(self):
        self.program("a_test", "report(one='good', two='skip')")
        status, output, last = self.run_tests()
        self.assertEqual((status, last), (0, "1 passed, 0 failed"))
        self.assertIn("1 skipped", output)

    def test_a_crash_is_a_failure_that_names_the_test(self):
        self.program("a_test", "print('[ RUN      ] S.one\\n[       OK ] S.one (0 ms)\\n[ RUN      ] S.two', flush=True)\n"
                               "os.kill(os.getpid(), signal.SIGSEGV)")
        status, output, last = self.run_tests()
        self.assertEqual((status, last), (1, "1 passed, 1 failed"))
        self.assertIn("in S.two", output)
        self.assertIn("SIGSEGV", output)

    def test_a_clean_report_does_not_hide_a_bad_exit(self):
        self.program("a_test", "report(one='good'); sys.exit(3)")
        status, _, last = self.run_tests()
        self.assertEqual((status, last), (1, "1 passed, 1 failed"))

    def test_a_program_that_hangs_is_killed(self):
        self.program("a_test", "time.sleep(100)")
        status, output, last = self.run_tests("--timeout", "1")
        self.assertEqual((status, last), (1, "0 passed, 1 failed"))
        self.assertIn("still running after", output)

    def test_a_missing_program_and_an_empty_one_are_failures(self):
        self.program("a_test", "", built=False)
        self.program("b_test", "report()")
        status, output, last = self.run_tests()
        self.assertEqual((status, last), (1, "0 passed, 2 failed"))
        self.assertIn("not built", output)
        self.assertIn("has no tests", output)

    def test_no_tests_at_all_is_a_failure(self):
        self.program("a_test", "report(one='good')")
        status, _, last = self.run_tests("nothing_like_it")
        self.assertEqual((status, last), (1, "0 passed, 0 failed"))

    def test_the_emulators_tests_are_run_by_their_own_python(self):
        (self.root / "build" / "CTestTestfile.cmake").write_text("")
        environment = dict(os.environ, ETL_DEPS_DIR=str(self.root / "deps"))

        def run():
            answer = subprocess.run([str(TOOLS / "run_tests"), str(self.root / "build"), "=emulator_test_rows.py"],
                                    stdout=subprocess.PIPE, text=True, check=False, timeout=120, env=environment)
            return answer.returncode, answer.stdout

        status, output = run()
        self.assertEqual(1, status)
        self.assertIn("tools/bootstrap_python makes it", output)
        python = self.root / "deps" / "python" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text("#!/bin/sh\necho 'Ran 3 tests in 0.1s'\n")
        python.chmod(0o755)
        status, output = run()
        self.assertEqual((0, "3 passed, 0 failed"), (status, output.splitlines()[-1]))

    def test_a_process_left_behind_is_ended_and_counts_as_a_failure(self):
        self.program("a_test", "child = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
                               "print(child.pid)\n"
                               f"pathlib.Path('{self.root}/pid').write_text(str(child.pid))\n"
                               "report(one='good')")
        status, output, last = self.run_tests()
        self.assertEqual((status, last), (1, "1 passed, 1 failed"))
        self.assertIn("left behind", output)
        pid = int((self.root / "pid").read_text())
        self.assertFalse(os.path.exists(f"/proc/{pid}"))


if __name__ == "__main__":
    unittest.main()
