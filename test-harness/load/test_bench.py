"""The benchmark command itself: sections end in their time, a failure is told, and what other work was on the machine is seen."""

import json
import os
import pathlib
import subprocess
import sys
import types

import pytest

import bench
import measure

ROOT = pathlib.Path(__file__).resolve().parents[2]
SLOW = """
import json, subprocess, sys, time
report = sys.argv[sys.argv.index("--json") + 1]
section = sys.argv[1]
if section == "slow":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    open({pid!r}, "w").write(str(child.pid))
    time.sleep(600)
if section == "broken":
    sys.exit(3)
open(report, "w").write(json.dumps({{section: {{"others": 0.0, "figures": [{{"what": "w", "value": "1"}}]}}}}))
"""


@pytest.fixture(name="sections")
def stand_in(tmp_path, monkeypatch):
    """Sections that end at once, fail, or never end; the file that the last one's child writes its id into."""
    pid = tmp_path / "pid"
    script = tmp_path / "sections.py"
    script.write_text(SLOW.format(pid=str(pid)))
    monkeypatch.setattr(bench, "__file__", str(script))
    return pid


def test_a_section_that_ends_gives_its_result(sections):
    assert bench.run_apart("good", [], 60)["figures"] == [{"what": "w", "value": "1"}]


def test_a_section_that_fails_is_told(sections, capsys):
    assert bench.run_apart("broken", [], 60)["failed"] == "ended with 3"
    assert "broken: FAILED: ended with 3" in capsys.readouterr().out


def test_a_section_that_never_ends_is_ended_with_all_it_started(sections):
    result = bench.run_apart("slow", [], 3)
    assert result["failed"] == "ended after 3 s" and result["figures"] == []
    child = int(sections.read_text())
    status = pathlib.Path(f"/proc/{child}/status")
    assert not status.exists() or "State:\tZ" in status.read_text()


def test_rounds_end_in_time_behind_one_that_counts(monkeypatch):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(measure.time, "monotonic", lambda: next(clock))
    assert list(measure.rounds_within(5, 1)) == [0, 1]
    clock = iter(range(0, 1000, 10))
    assert list(measure.rounds_within(5, 25)) == [0, 1, 2, 3]
    clock = iter(range(0, 1000))
    assert list(measure.rounds_within(3, 500)) == [0, 1, 2, 3]


def test_a_busy_machine_is_seen():
    before = measure.cores_busy(0.5)
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count())]
    try:
        assert measure.cores_busy(1.0) > max(0.5, min(before, 0.5))
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def test_the_table_marks_what_was_measured_beside_other_work(capsys):
    bench.table({"quiet": {"others": 0.0, "figures": [{"what": "a", "value": "1", "target": "2"}]},
                 "busy": {"others": 1.5, "figures": [{"what": "b", "value": "3"}]},
                 "gone": {"others": 0.0, "figures": [], "missing": "no such device"}})
    lines = capsys.readouterr().out.splitlines()
    assert next(l for l in lines if l.startswith("quiet")).split() == ["quiet", "0.0", "a", "2", "1"]
    assert next(l for l in lines if l.startswith("busy")).split() == ["busy", "1.5*", "b", "3"]
    assert "no such device" in next(l for l in lines if l.startswith("gone"))


def test_the_best_passes_are_kept_and_the_worst_told():
    one, other = measure.Bandwidth(20e9, 15e9, 9e9, 25), measure.Bandwidth(30e9, 25e9, 12e9, 25)
    assert one.better(other) == other.better(one) == measure.Bandwidth(30e9, 25e9, 9e9, 50)


def test_every_section_has_a_time():
    arguments = types.SimpleNamespace(types=None, seconds=None, rounds=1, threads=1, model=None, batches="1", device=None)
    assert list(bench.sections(arguments)) == list(bench.SECONDS)


def test_an_unknown_section_is_refused():
    done = subprocess.run([sys.executable, "test-harness/load/bench.py", "engin"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2 and "no section is called engin" in done.stderr


def test_a_json_report_of_one_section(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "sections", lambda args: {"masks": lambda: {"figures": []}})
    monkeypatch.setattr(bench, "cores_busy", lambda: 0.0)
    monkeypatch.setattr(sys, "argv", ["bench.py", "masks", "--json", str(tmp_path / "r.json")])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code == 0 and json.loads((tmp_path / "r.json").read_text())["masks"] == {"figures": [], "others": 0.0}
