"""The script of the first run on a GPU, on a machine without one: it refuses to call a software device a GPU, in every part and in the
tier, and its rehearsal says what it is."""

import os
import pathlib
import subprocess
import sys
import types

import pytest

import first_run

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAVAPIPE = pathlib.Path("/usr/share/vulkan/icd.d/lvp_icd.x86_64.json")


def run(*arguments, **changes):
    environment = {k: v for k, v in os.environ.items() if k != "LLAMA_ORCH_PROOF_DIR"} | {"VK_ICD_FILENAMES": str(LAVAPIPE)} | changes
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=600, env=environment, cwd=ROOT)


def first(*arguments, **changes):
    return run("test-harness/gpu/first_run.py", *arguments, **changes)


@pytest.mark.parametrize("part", first_run.PARTS)
def test_OC_TEST_7017_a_software_device_is_no_gpu(part):
    done = first(part)
    assert done.returncode == 69 and "NO_DEVICE_OF_THIS_KIND" in done.stderr, (done.stdout, done.stderr)


def test_OC_TEST_7017_no_driver_at_all_is_told(tmp_path):
    done = first("facts", VK_ICD_FILENAMES=str(tmp_path / "none.json"))
    assert done.returncode == 69 and "NO_DEVICE_OF_THIS_KIND" in done.stderr, (done.stdout, done.stderr)


def test_OC_TEST_7017_the_tier_ends_at_its_first_step(tmp_path):
    done = run("ci/run_tests.py", "gpu", "--only", "gpu-", LLAMA_ORCH_RUN_ID=f"guard-{os.getpid()}")
    proof = ROOT / "build/proof" / f"guard-{os.getpid()}"
    try:
        assert done.returncode == 1 and "NO_DEVICE_OF_THIS_KIND" in done.stdout, done.stdout
        assert "gpu-facts: FAILED (69)" in done.stdout and "--- gpu-bytes" not in done.stdout
    finally:
        subprocess.run(["rm", "-rf", proof], check=True)


def test_OC_TEST_7017_a_rehearsal_is_no_proof(tmp_path):
    done = first("facts", "--device-kind=cpu", LLAMA_ORCH_PROOF_DIR=str(tmp_path))
    assert done.returncode == 64 and "REHEARSAL_IS_NO_PROOF" in done.stderr
    assert not list(tmp_path.iterdir())


def test_OC_TEST_7017_a_rehearsal_says_so_and_prints_every_figure():
    done = first("facts", "--device-kind=cpu")
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert all(line.startswith("REHEARSAL") or "\t" in line for line in done.stdout.splitlines()), done.stdout
    kept = (ROOT / "build/gpu-rehearsal/facts.txt").read_text()
    assert kept.startswith("REHEARSAL\t")
    facts = first_run.read_facts(kept)
    assert facts["device type"] == "cpu" and facts["self-test of the numerics"] == "the contract's bytes"
    for count in (1, 100, 1000):
        assert "median" in facts[f"{count} empty dispatches and barriers, us"]
    for way in ("read through texel buffers", "read through storage buffers", "copied, bytes read and written"):
        assert float(facts[f"{way}, GB/s"].split()[1]) > 0


def test_a_difference_is_named():
    one, other = bytes(range(16)), bytes(range(12)) + bytes([9, 9, 9, 9])
    assert first_run.first_difference(one, other).startswith("float 3: ")
    assert first_run.first_difference(one, one[:8]) == "16 and 8 bytes"


class Device:
    """What the parts need of a run, without one."""
    device, rehearsal, identity = "vulkan:0", False, {"device": "a GPU"}

    def __init__(self, printed=""):
        self.printed = printed

    def say(self, text):
        pass

    def command(self, *_, **__):
        return types.SimpleNamespace(stdout=self.printed)


def test_other_bytes_than_the_cpus_fail(monkeypatch):
    rows = {"cpu": bytes(8), "vulkan:0": bytes(8)}
    monkeypatch.setattr(first_run, "logits", lambda run, device, lines: rows[device])
    monkeypatch.setenv("LLAMA_ORCH_MODEL", "a model")
    first_run.bytes_equal(Device())
    rows["vulkan:0"] = bytes([0, 0, 0, 0, 0, 0, 0, 1])
    with pytest.raises(first_run.Failed, match="float 1"):
        first_run.bytes_equal(Device())
    rows["cpu"] = rows["vulkan:0"] = b""
    with pytest.raises(first_run.Failed, match="no logits"):
        first_run.bytes_equal(Device())


def test_cells_on_another_device_fail():
    first_run.grid(Device("Vulkan device: a GPU\n"))
    with pytest.raises(first_run.Failed, match="did not run on a GPU"):
        first_run.grid(Device("Vulkan device: llvmpipe\n"))
