"""Tests of the scripts that guard the tree: each guard is shown a breach and must see it."""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import pwd
import subprocess
import sys
import tempfile
import unittest
import unittest.mock

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent)]

import check_links  # noqa: E402
import run_tests  # noqa: E402


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name).resolve()

    def put(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def run_script(self, name, *args):
        return subprocess.run(["bash", str(HERE / name), *args], capture_output=True, text=True, check=False)


class VerifyProof(Folder):
    def setUp(self):
        super().setUp()
        self.put("tests_executed.json", '["Queue.refuses"]')
        self.put("skips.json", "[]")
        self.put("steps.json", '[{"step": "ctest", "tier": "full", "exit": 0, "seconds": 1}]')
        self.put("provenance.json", json.dumps({"run_id": "r", "tier": "full", "revision": "a", "finished": "now", "machine": {"cpu": "x"}}))
        for name in ("logs/a.log", "junit/a.xml", "pacts/p.json", "snapshots/s.sse", "metrics/m.prom", "seeds.txt"):
            self.put(name, "x\n")
        self.seal()

    def seal(self):
        files = sorted(path for path in self.root.rglob("*") if path.is_file() and path.name != "manifest.sha256")
        self.put("manifest.sha256", "".join(
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(self.root)}\n" for path in files))

    def verify(self):
        return self.run_script("verify_proof.sh", str(self.root))

    def assert_refused(self, expected):
        done = self.verify()
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(expected, done.stdout)

    def test_OC_PROOF_1002_a_whole_bundle_is_accepted(self):
        done = self.verify()
        self.assertEqual((done.returncode, done.stdout), (0, "verify_proof: accepted\n"))

    def test_OC_PROOF_1002_an_edited_file_is_refused(self):
        self.put("logs/a.log", "y\n")
        self.assert_refused("logs/a.log: differs from the manifest")

    def test_OC_PROOF_1002_an_added_file_is_refused(self):
        self.put("logs/b.log", "y\n")
        self.assert_refused("logs/b.log: not in the manifest")

    def test_OC_PROOF_1002_a_removed_file_is_refused(self):
        (self.root / "pacts/p.json").unlink()
        self.assert_refused("pacts/p.json: in the manifest and missing")

    def test_OC_PROOF_1002_each_missing_piece_is_refused_even_when_sealed(self):
        for name in ("tests_executed.json", "skips.json", "steps.json", "provenance.json", "logs/a.log", "junit/a.xml", "pacts/p.json",
                     "snapshots/s.sse", "metrics/m.prom", "seeds.txt"):
            with self.subTest(name=name):
                text = (self.root / name).read_text(encoding="utf-8")
                (self.root / name).unlink()
                self.seal()
                self.assert_refused(f"{name.split('/', maxsplit=1)[0]}: missing or empty")
                self.put(name, text)
        (self.root / "manifest.sha256").unlink()
        self.assert_refused("manifest.sha256: missing")

    def test_OC_PROOF_1002_an_in_scope_skip_is_refused(self):
        for skip in ({"test": "a", "reason": "b", "in_scope": True}, {"test": "a", "reason": "b"}, {"test": "a", "in_scope": False}):
            with self.subTest(skip=skip):
                self.put("skips.json", json.dumps([skip]))
                self.seal()
                self.assert_refused("skips.json:")
        self.put("skips.json", json.dumps([{"test": "a", "reason": "another tier's", "in_scope": False}]))
        self.seal()
        self.assertEqual(self.verify().returncode, 0)

    def test_OC_PROOF_1002_no_test_or_a_failed_step_is_refused(self):
        self.put("tests_executed.json", "[]")
        self.seal()
        self.assert_refused("no test ran")
        self.put("tests_executed.json", '["a"]')
        self.put("steps.json", '[{"step": "e2e", "exit": 1}]')
        self.seal()
        self.assert_refused("e2e did not pass")

    def test_only_the_fast_and_the_gpu_tier_need_no_live_cluster(self):
        provenance = (self.root / "provenance.json").read_text(encoding="utf-8")
        for name in ("pacts/p.json", "snapshots/s.sse", "metrics/m.prom", "seeds.txt"):
            (self.root / name).unlink()
        for tier, code in (("fast", 0), ("gpu", 0), ("full", 1), ("nightly", 1)):
            with self.subTest(tier=tier):
                self.put("provenance.json", provenance.replace("full", tier))
                self.seal()
                self.assertEqual(self.verify().returncode, code)


class ArchiveTodo(Folder):
    def archive(self):
        return self.run_script("archive_todo.sh", str(self.root)).returncode

    def test_a_finished_list_is_moved_under_the_next_number(self):
        self.put(".docs/DONE/TODO-9.md", "old")
        self.put(".docs/DONE/TODO-notes.md", "no number")
        self.put("TODO.md", "# TODO\n- [x] one\n")
        self.assertEqual(self.archive(), 0)
        self.assertEqual((self.root / ".docs/DONE/TODO-10.md").read_text(encoding="utf-8"), "# TODO\n- [x] one\n")
        self.assertNotIn("[x]", (self.root / "TODO.md").read_text(encoding="utf-8"))
        self.assertEqual((self.root / ".docs/DONE/TODO-9.md").read_text(encoding="utf-8"), "old")

    def test_an_open_item_or_an_empty_list_stays(self):
        for text in ("- [x] one\n  - [ ] two\n", "# TODO\n", None):
            with self.subTest(text=text):
                if text is None:
                    (self.root / "TODO.md").unlink()
                else:
                    self.put("TODO.md", text)
                self.assertEqual(self.archive(), 1)
                self.assertFalse((self.root / ".docs/DONE").exists())


class CheckLinks(Folder):
    def test_the_links_of_the_tree_hold(self):
        self.assertEqual(check_links.check(ROOT)[0], [])

    def test_dot_folders_are_read_and_each_bad_link_is_seen(self):
        self.put("b.md", "# The `b` heading!\n# Twice\n# Twice\n")
        good = "[a](../b.md) [b](../b.md#the-b-heading) [c](../b.md#twice-1) ![d](../b.md) [e][r] [f](http://h/x) [g](#here)\n[r]: ../b.md\n# Here\n"
        self.put(".specs/a.md", good + "`[not](one)`\n```\n[nor](this)\n```\n")
        self.assertEqual(check_links.check(self.root)[0], [])
        for bad, expected in (("[a](../c.md)", "leads nowhere"), ("[a](../b.md#no)", "names no heading"), ("[a](#no)", "names no heading"),
                              ("[a](/etc/passwd)", "is absolute"), ("[a](../../x)", "leaves the tree"), ("[a][nope]", "is not defined"),
                              ("[a](ftp://x)", "is no http"), ("![a](x.png)", "leads nowhere"), ("[r]: gone.md", "leads nowhere")):
            with self.subTest(bad=bad):
                self.put(".specs/a.md", bad + "\n")
                problems, _ = check_links.check(self.root)
                self.assertEqual(len(problems), 1, problems)
                self.assertIn(".specs/a.md:1: ", problems[0])
                self.assertIn(expected, problems[0])


class RunTidily(Folder):
    def run_step(self, script, timeout=20):
        with open(self.root / "log", "w+b") as out:
            code = run_tests.run_tidily(["bash", "-c", script], dict(os.environ), timeout, out)
            out.seek(0)
            return code, out.read().decode()

    def test_OC_TEST_7015_a_step_that_leaves_a_folder_behind_fails_and_names_it(self):
        self.assertEqual(self.run_step('mktemp -d > /dev/null; ls "$TMPDIR" | wc -l')[0], 1)
        code, text = self.run_step('touch "$TMPDIR/orch-left"; echo said')
        self.assertEqual((code, text.splitlines()), (1, ["said", "left behind in the folder for temporary files: orch-left"]))

    def test_OC_TEST_7015_a_tidy_step_passes_with_its_own_status(self):
        self.assertEqual(self.run_step('f=$(mktemp); rm "$f"; mkdir -p "$TMPDIR/pytest-of-a/pytest-0"'), (0, ""))
        self.assertEqual(self.run_step('touch "$TMPDIR/x"; exit 7'), (7, ""))
        self.assertEqual(self.run_step("sleep 20", 0.05)[0], 124)


class Skips(Folder):
    def test_OC_TEST_7011_a_skipped_test_is_neither_passed_nor_lost(self):
        junit = self.put("a.xml", """<testsuite><testcase classname="A" name="ran"/><testcase classname="A" name="left"><skipped message="no GPU"/></testcase>
            <testcase classname="A" name="off" status="notrun"/><testcase classname="A" name="broke"><failure/></testcase></testsuite>""")
        self.assertEqual(run_tests.executed(junit), (["A.ran"], ["A.broke"], [("A.left", "no GPU"), ("A.off", "notrun")]))
        log = self.put("a.log", "[       OK ] Q.ran (1 ms)\n[  SKIPPED ] Q.left (0 ms)\n")
        self.assertEqual(run_tests.gtest_cases(log), (["Q.ran"], ["Q.left"]))


class Bundle(Folder):
    def test_OC_PROOF_1001_a_run_leaves_every_piece_and_seals_it(self):
        with unittest.mock.patch.object(run_tests, "ROOT", self.root), unittest.mock.patch.object(run_tests.Run, "write_compliance"):
            run = run_tests.Run("fast")
            cases = '<testcase classname="A" name="ran"/><testcase classname="A" name="left"><skipped message="m"/></testcase>'
            given = self.put("given.xml", f"<testsuite>{cases}</testsuite>")
            step = run_tests.Step("seen", "fast", ["sh", "-c", "echo 3 seeds from 1; cp $0 @JUNIT@", str(given)], "pytest")
            with contextlib.redirect_stdout(io.StringIO()):
                self.assertTrue(run.run(step))
                run.write()
        self.assertEqual(run.dir.parent, self.root / "build/proof")
        read = {path.name: path.read_text(encoding="utf-8") for path in run.dir.rglob("*") if path.is_file()}
        self.assertEqual(json.loads(read["tests_executed.json"]), ["A.ran"])
        self.assertEqual([(s["test"], s["reason"], s["in_scope"]) for s in json.loads(read["skips.json"])], [("A.left", "m", True)])
        self.assertEqual([(s["step"], s["exit"]) for s in json.loads(read["steps.json"])], [("seen", 0)])
        self.assertIn("seeds from 1", read["seeds.txt"])
        self.assertIn("seeds from 1", read["seen.log"])
        provenance = json.loads(read["provenance.json"])
        self.assertEqual((provenance["run_id"], provenance["tier"]), (run.id, "fast"))
        self.assertTrue(provenance["machine"]["memory_kib"])
        sealed = dict(reversed(line.split("  ")) for line in read["manifest.sha256"].splitlines())
        self.assertEqual(set(sealed), {p.relative_to(run.dir).as_posix() for p in run.dir.rglob("*") if p.is_file()} - {"manifest.sha256"})
        for name, digest in sealed.items():
            self.assertEqual(hashlib.sha256((run.dir / name).read_bytes()).hexdigest(), digest)


class Beside(Folder):
    def judged(self, beside, *others):
        """Whether a run of these scripts passed, and its steps in the order of their verdicts; the first runs beside the others."""
        with unittest.mock.patch.object(run_tests, "ROOT", self.root), unittest.mock.patch.object(run_tests.Run, "write_compliance"):
            run = run_tests.Run("full")
            made = [run_tests.Step("beside", "full", ["sh", "-c", beside], timeout=20, beside=True),
                    *(run_tests.Step(f"step{i}", "full", ["sh", "-c", script]) for i, script in enumerate(others)),
                    run_tests.Step("later", "nightly", ["true"])]
            with contextlib.redirect_stdout(io.StringIO()):
                good = run.all(["fast", "full", "nightly"], made)
        return good, [row["step"] for row in run.rows]

    def test_OC_TEST_7018_it_runs_with_the_others_at_the_lowest_priority_and_is_judged_with_its_tier(self):
        pipe = self.root / "pipe"
        os.mkfifo(pipe)  # neither end opens without the other
        good, order = self.judged(f"echo > {pipe}; test $(nice) = 19", f"timeout 20 cat {pipe}")
        self.assertTrue(good)
        self.assertEqual(order, ["step0", "beside", "later"])

    def test_OC_TEST_7018_its_failure_fails_the_run(self):
        self.assertEqual(self.judged("exit 3", "true"), (False, ["step0", "beside", "later"]))


class Check(Folder):
    def test_OC_CLI_1003_one_finding_fails_the_check(self):
        for name in ("ci/check.py", *(p.relative_to(ROOT).as_posix() for p in (ROOT / "ci/tools").glob("lint_results.py")), "ci/scripts/check_links.py"):
            self.put(name, (ROOT / name).read_text(encoding="utf-8"))
        for text, expected in (("[here](a.md)\n", 0), ("[nowhere](b.md)\n", 1)):
            self.put("a.md", text)
            done = subprocess.run([sys.executable, str(self.root / "ci/check.py"), "--only", "links"], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, expected, done.stdout + done.stderr)
            self.assertIn("links: ok" if expected == 0 else "b.md", done.stdout)


class Wrapper(Folder):
    """`./llama-orch` in a tree of its own; what it would run is a stub that writes down its name and arguments."""

    def setUp(self):
        super().setUp()
        for name in ("llama-orch", "ci/deps.txt"):
            self.put(name, (ROOT / name).read_text(encoding="utf-8"))
        for name in ("apt-get", "sudo", "cmake", "ninja", "dpkg-query"):  # dpkg-query: nothing is installed
            self.stub(f"stubs/{name}", 1)

    def stub(self, name, status):
        self.put(name, f'#!/bin/sh\necho "${{0##*/}} $*" >>{self.root}/calls\nenv\nexit {status}\n').chmod(0o755)

    def calls(self):
        path = self.root / "calls"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def llama_orch(self, *arguments, **environment):
        return subprocess.run(["bash", self.root / "llama-orch", *arguments], capture_output=True, text=True, check=False, timeout=60,
                              env={"PATH": f"{self.root}/stubs:/usr/bin:/bin", **environment})

    def on(self, os_release, *arguments):
        return self.llama_orch(*arguments, LLAMA_ORCH_OS_RELEASE=str(self.put("os-release", os_release)), HOME=str(self.root))

    def test_OC_CLI_1009_another_system_is_refused_before_anything_is_installed(self):
        for os_release in ("ID=fedora\nVERSION_ID=43\n", 'ID=ubuntu\nVERSION_ID="22.04"\n', "ID=arch\n"):
            for command in ("up", "test", "check"):
                with self.subTest(os_release=os_release, command=command):
                    done = self.on(os_release, command)
                    self.assertEqual(done.returncode, 2, done.stderr)
                    self.assertEqual(done.stderr.count("is built on Debian 12, Debian 13 or Ubuntu 24.04"), 1)
                    self.assertEqual(self.calls(), [])

    def test_OC_CLI_1009_a_known_system_gets_the_packages_of_its_own_names(self):
        for os_release, wanted in (('ID=debian\nVERSION_ID="12"\n', 1), ('ID=debian\nVERSION_ID="13"\n', 2), ('ID=ubuntu\nVERSION_ID="24.04"\n', 3)):
            with self.subTest(os_release=os_release):
                (self.root / "calls").unlink(missing_ok=True)
                self.on(os_release, "up")
                rows = [[cell.strip() for cell in line.split("|")] for line in (ROOT / "ci/deps.txt").read_text(encoding="utf-8").splitlines()
                        if line.strip() and not line.startswith("#")]
                names = [row[0] if row[wanted - 1] == "=" else row[wanted - 1] for row in rows if row[3] == "build"]
                asked = [call.split()[-1] for call in self.calls() if call.startswith("dpkg-query")]
                self.assertEqual(asked, [name for name in names if name != "-"])

    def said_of(self, name, **environment):
        self.stub("build/release/bin/llama-orch-cli", 0)
        done = self.llama_orch("ps", **environment)
        return next((line.removeprefix(f"{name}=") for line in done.stdout.splitlines() if line.startswith(f"{name}=")), done.stderr)

    def test_OC_CLI_1008_the_client_is_told_where_the_script_keeps_its_data(self):
        for environment, data in (({"HOME": "/h"}, "/h/.local/share/llama-orch"), ({"XDG_DATA_HOME": "/x", "HOME": "/h"}, "/x/llama-orch"),
                                  ({"LLAMA_ORCH_DATA": "/d"}, "/d")):
            with self.subTest(environment=environment):
                self.assertEqual(self.said_of("LLAMA_ORCH_DATA", **environment), data)

    def test_OC_CLI_1008_without_a_home_the_folders_are_those_of_the_user(self):
        home = pwd.getpwuid(os.getuid()).pw_dir
        for environment in ({}, {"HOME": ""}):
            with self.subTest(environment=environment):
                self.assertEqual(self.said_of("LLAMA_ORCH_DATA", **environment), f"{home}/.local/share/llama-orch")
                self.assertEqual(self.said_of("HOME", **environment), home)  # of the state's folder

    def test_OC_CLI_1011_an_unknown_command_is_refused_with_the_list(self):
        for arguments in (["satus"], ["satus", "--help"]):
            done = self.llama_orch(*arguments)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertIn("satus", done.stderr)
            for command in ("up", "run", "ps | status", "down", "test", "check"):
                self.assertIn(f"\n  {command} ", done.stderr)

    def test_OC_CLI_1011_help_installs_and_builds_nothing(self):
        for command in ("up", "run", "ps", "reload"):
            for flag in ("-h", "--help"):
                with self.subTest(command=command, flag=flag):
                    done = self.llama_orch(command, flag)
                    self.assertEqual((done.returncode, done.stderr, self.calls()), (0, "", []))
                    self.assertIn("Exit codes:", done.stdout)
        self.stub("build/release/bin/llama-orch-cli", 0)
        self.assertEqual(self.llama_orch("up", "--help").returncode, 0)
        self.assertEqual(self.calls(), ["llama-orch-cli up --help"])
        (self.root / "calls").unlink()
        self.put("ci/run_tests.py", "print('help of the tests')")
        self.assertEqual(self.llama_orch("test", "--help").stdout, "help of the tests\n")
        self.assertEqual(self.calls(), [])

if __name__ == "__main__":
    unittest.main()
