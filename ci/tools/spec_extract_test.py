"""Tests of spec_extract.py on small trees: what it finds, what it refuses, and when it calls an id proven."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

TOOLS = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(TOOLS))

import spec_extract  # noqa: E402

SPEC = """# Queue

Prose - not a requirement.

## Section one

- ORCH-3004 Queues MUST be bounded,
  in jobs and bytes. {shown: metric queue_depth}
- ORCH-3006 A caller SHOULD be limited. {later}
- OC-LEASE-L3 The worker MUST refuse others. {n/a shown: nothing to see here} {n/a contract: internal rule}
"""
METRICS = "families:\n  - {name: queue_depth}\n"
TEST_CC = """TEST(Queue, ORCH_3004_full_queue_refuses) {}
// ORCH-3004: the other side of it.
TEST(Queue, accepts_until_full) {}
TEST(Lease, L3_refuses_a_foreign_secret) {}
TEST_P(LeaseTable, L3_refuses_an_old_inc) {}
"""
JUNIT = """<testsuites><testsuite name="q">
<testcase classname="Queue" name="ORCH_3004_full_queue_refuses" status="run"/>
<testcase classname="Queue" name="accepts_until_full" status="run"/>
<testcase classname="Lease" name="L3_refuses_a_foreign_secret" status="run"/>
<testcase classname="Prefix/LeaseTable" name="L3_refuses_an_old_inc/7" status="run"/>
</testsuite></testsuites>
"""


class Extract(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.put(".specs/queue.md", SPEC)
        self.put("contracts/metrics.yaml", METRICS)
        self.put("contracts/openapi/data.yaml", "x-req-id: [ORCH-3004]\n")
        self.put("core/queue_test.cc", TEST_CC)
        self.put("core/queue.cc", "// ORCH-3004, L3: bounded. An F16 and an F32 are no rules.\n")

    def put(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def extract(self):
        return spec_extract.extract(self.root)

    def assert_refused(self, expected):
        _, problems = self.extract()
        self.assertTrue(any(expected in problem for problem in problems), problems)

    def test_finds_ids_tests_code_and_contract(self):
        requirements, problems = self.extract()
        self.assertEqual(list(problems), [])
        self.assertEqual(sorted(requirements), ["OC-LEASE-L3", "ORCH-3004", "ORCH-3006"])
        queue = requirements["ORCH-3004"]
        self.assertEqual(queue.text, "Queues MUST be bounded, in jobs and bytes.")
        self.assertEqual((queue.level, queue.section, queue.shown), ("must", "Section one", ["metric queue_depth"]))
        self.assertEqual(queue.tests, {"core/queue_test.cc::Queue.ORCH_3004_full_queue_refuses",
                                       "core/queue_test.cc::Queue.accepts_until_full"})
        self.assertEqual(queue.code, {"core/queue.cc"})
        self.assertEqual(queue.contract, {"contracts/openapi/data.yaml"})
        self.assertEqual(len(requirements["OC-LEASE-L3"].tests), 2)

    def status(self, id_, results=None):
        requirements, problems = self.extract()
        self.assertEqual(list(problems), [])
        return spec_extract.status_of(requirements[id_], results or {})

    def results(self, text):
        self.put("results/a.xml", text)
        return spec_extract.read_results(self.root / "results")

    def test_ruling_14_proven_only_when_the_tests_ran(self):
        self.assertEqual(self.status("ORCH-3004"), ("partial", "evidence complete; test exists, not run here"))
        results = self.results(JUNIT)
        self.assertEqual(self.status("ORCH-3004", results)[0], "proven")
        self.assertEqual(self.status("OC-LEASE-L3", results)[0], "proven")
        self.assertEqual(self.status("ORCH-3006", results), ("not started", "later"))

    def test_ruling_14_not_proven_by_failed_skipped_or_absent_runs(self):
        line = '<testcase classname="Queue" name="accepts_until_full" status="run"/>'
        for new, remark in ((line.replace("/>", "><failure/></testcase>"), "FAILED"),
                            (line.replace("/>", "><skipped/></testcase>"), "skipped"), ("", "not run here")):
            with self.subTest(remark=remark):
                status, note = self.status("ORCH-3004", self.results(JUNIT.replace(line, new)))
                self.assertEqual(status, "partial")
                self.assertIn(remark, note)

    def test_ruling_14_not_proven_while_evidence_is_missing(self):
        for name, old, new, missing in (
                ("core/queue.cc", "ORCH-3004", "bounded", "code"),
                ("contracts/openapi/data.yaml", "ORCH-3004", "", "contract"),
                ("core/queue_test.cc", "// ORCH-3004: the other side of it.\n", "", "second test"),
                (".specs/queue.md", " {shown: metric queue_depth}", "", "metric or log")):
            with self.subTest(missing=missing):
                before = (self.root / name).read_text(encoding="utf-8")
                self.assertIn(old, before)
                self.put(name, before.replace(old, new))
                self.assertEqual(self.status("ORCH-3004", self.results(JUNIT)), ("partial", f"missing: {missing}"))
                self.put(name, before)

    def test_python_and_feature_tests_are_found(self):
        self.put("t/x_test.py", "def test_ORCH_3004_python(self):\n    pass\n")
        self.put("t/a.feature", "Feature: f\n  @ORCH-3004\n  Scenario: a full queue\n")
        tests = self.extract()[0]["ORCH-3004"].tests
        self.assertIn("t/x_test.py::x_test.test_ORCH_3004_python", tests)
        self.assertIn("t/a.feature::scenario.a full queue", tests)

    def test_a_python_file_counts_as_run_by_its_ctest_entry(self):
        self.put("t/x_test.py", "def test_ORCH_3004_python(self):\n    pass\n")
        entry = '<testcase name="x_test" classname="x_test" status="run"/></testsuite>'
        self.assertEqual(self.status("ORCH-3004", self.results(JUNIT))[0], "partial")
        self.assertEqual(self.status("ORCH-3004", self.results(JUNIT.replace("</testsuite>", entry)))[0], "proven")

    def test_a_pytest_result_is_found_under_its_file(self):
        self.put("t/test_x.py", "def test_ORCH_3004_python():\n    pass\n")
        case = '<testcase classname="t.test_x" name="test_ORCH_3004_python[1]"/></testsuite>'
        self.assertEqual(self.status("ORCH-3004", self.results(JUNIT.replace("</testsuite>", case)))[0], "proven")

    def test_the_evidence_map_binds_tests_and_code_and_refuses_stale_rows(self):
        self.put("core/other_test.cc", "TEST(Limits, are_kept) {}\nTEST(Limits, ORCH3006_without_a_hyphen) {}\n")
        self.put(".specs/evidence.yaml", "ORCH-3006: {tests: ['Limits.are_*'], code: [core/queue.cc]}\n")
        requirement = self.extract()[0]["ORCH-3006"]
        self.assertEqual(requirement.tests, {"core/other_test.cc::Limits.are_kept",
                                             "core/other_test.cc::Limits.ORCH3006_without_a_hyphen"})
        self.assertEqual(requirement.code, {"core/queue.cc"})
        for row, expected in (("ORCH-3006: {tests: ['Limits.were_*']}", "no test matches"), ("ORCH-3006: {code: [core/x.cc]}", "does not exist"),
                              ("ORCH-1234: {tests: ['Limits.*']}", "not specified"), ("ORCH-3006: {proof: [a]}", "keys other than"),
                              ("ORCH-3004: {code: [core/queue.cc]}\nORCH-3004: {code: [core/queue.cc]}", "has two rows")):
            with self.subTest(row=row):
                self.put(".specs/evidence.yaml", row + "\n")
                self.assert_refused(expected)

    def test_further_numbers_in_a_name_are_ids_too(self):
        self.put("t/x_test.py", "def test_ORCH_3004_3006_python(self):\n    pass\n")
        self.assertEqual(self.extract()[0]["ORCH-3006"].tests, {"t/x_test.py::x_test.test_ORCH_3004_3006_python"})
        self.put("t/x_test.py", "def test_ORCH_3004_9999_python(self):\n    pass\n")
        self.assert_refused("ORCH-9999 is cited and not specified")

    def test_entries_of_ctest_and_steps_are_evidence_that_must_have_passed(self):
        self.put("sim/CMakeLists.txt", "add_test(NAME sim_seeds COMMAND sim --seeds=3)\n# queue\nfast_test(gate_test gate.py)\n")
        self.put("ci/run_tests.py", '    return [script("gate-run", "full", "gate.py"), Step("build", "fast", [])]\n')
        self.put("core/gate.cc", "// ORCH-3006\n")
        self.put(".specs/queue.md", SPEC.replace("{later}", "{n/a contract: no interface} {shown: log job_id}"))
        self.put(".specs/evidence.yaml", "ORCH-3006: {tests: ['ctest.sim_*', 'step.gate-run']}\n")
        self.assertEqual(self.extract()[0]["ORCH-3006"].tests, {"sim/CMakeLists.txt::ctest.sim_seeds", "ci/run_tests.py::step.gate-run"})
        entry = '<testcase name="sim_seeds" classname="sim_seeds" status="run"/></testsuite>'
        results = self.results(JUNIT.replace("</testsuite>", entry))
        self.assertEqual(self.status("ORCH-3006", results), ("partial", "evidence complete; test exists, not run here"))
        for code, expected in ((0, ("proven", "")), (1, ("partial", "evidence complete; a test FAILED"))):
            with self.subTest(code=code):
                self.put("results/steps.json", json.dumps([{"step": "gate-run", "exit": code}]))
                self.assertEqual(self.status("ORCH-3006", spec_extract.read_results(self.root / "results")), expected)

    def test_a_test_case_is_no_entry_of_ctest(self):
        self.put("results/a.xml", '<testsuite><testcase classname="Sim" name="sim_seeds" status="run"/></testsuite>')
        self.assertNotIn("ctest.sim_seeds", spec_extract.read_results(self.root / "results"))

    def test_refuses_duplicate_ids(self):
        self.put(".specs/other.md", "- ORCH-3004 Again MUST be.\n")
        self.assert_refused("ORCH-3004 is defined twice")

    def test_refuses_hyphens_that_are_not_ascii(self):
        for odd in "\u2010\u2011\u2013\u2014\u2212":
            with self.subTest(odd=hex(ord(odd))):
                self.put(".specs/other.md", f"- ORCH{odd}3005 It MUST be.\n")
                self.assert_refused("not ASCII")
        self.put(".specs/other.md", "")
        self.put("core/a.cc", "// ORCH\u20113004\n")
        self.assert_refused("core/a.cc:1: an id with a hyphen")

    def test_refuses_ids_that_nothing_specifies(self):
        self.put("core/a.cc", "// ORCH-9999\n")
        self.assert_refused("core/a.cc:1: ORCH-9999 is cited and not specified")
        self.put("core/a.cc", "")
        self.put("core/a_test.cc", "TEST(A, OC_CORE_1234_does) {}\n")
        self.assert_refused("OC-CORE-1234 is cited and not specified")

    def test_refuses_malformed_requirements(self):
        for line, expected in (("- ORCH-300 It MUST be.", "malformed id"), ("- orch-3005 It MUST be.", "malformed id"),
                               ("- ORCH-3005 It is.", "none of MUST"), ("- ORCH-3005 It MUST be. {soon}", "unknown mark"),
                               ("- ORCH-3005 It MUST be. {shown: metric nope}", "not in contracts/metrics.yaml"),
                               ("- ORCH-3005 It MUST be. {amended: ADR-0001}", "does not exist"),
                               ("- ORCH-3005 It MUST be. {n/a shown: x}", "unknown mark"),
                               ("- ORCH-3005 It MUST be. {n/a shown: GET /v1/{id}/why}", "braces within")):
            with self.subTest(line=line):
                self.put(".specs/other.md", line + "\n")
                self.assert_refused(expected)

    def test_retired_and_amended_keep_their_row(self):
        self.put(".docs/decisions/0001-x.md", "")
        self.put(".specs/other.md", "- ORCH-3005-DEPR It MUST be.\n- ORCH-3007 It MUST be. {amended: ADR-0001}\n")
        self.assertEqual(self.status("ORCH-3005")[0], "retired")
        self.assertEqual(self.status("ORCH-3007")[0], "amended")

    def test_second_run_changes_nothing_and_check_sees_a_stale_file(self):
        def run(*args):
            return subprocess.run([sys.executable, str(TOOLS / "spec_extract.py"), "--root", str(self.root), *args],
                                  capture_output=True, text=True, check=False)
        self.assertEqual(run("--check").returncode, 1)
        self.assertEqual(run().returncode, 0)
        first = {path: path.read_bytes() for path in self.root.rglob("*") if path.is_file()}
        self.assertEqual(run().returncode, 0)
        self.assertEqual(first, {path: path.read_bytes() for path in self.root.rglob("*") if path.is_file()})
        self.assertEqual(run("--check").returncode, 0)
        self.put("core/queue.cc", "")
        self.assertEqual(run("--check").returncode, 1)


if __name__ == "__main__":
    unittest.main()
