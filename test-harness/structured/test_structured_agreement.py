"""A slice of structured_agreement.py whose tests have names: the whole of it is a step of its own in ci/run_tests.py."""

import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
BINARIES = pathlib.Path(os.environ.get("LLAMA_ORCH_BINARIES", HERE.parents[1] / "build/release/bin"))


def judged(*arguments):
    return subprocess.run([sys.executable, HERE / "structured_agreement.py", "--tool", BINARIES / "constraint_tool", *arguments],
                          capture_output=True, text=True, timeout=300, check=False)


def test_OC_GRAMMAR_1040_texts_written_under_the_masks_are_valid_to_judges_outside():
    done = judged("--schemas", "60", "--seed", "5")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("mutant", ["end_anywhere", "stale", "first_byte"])
def test_OC_GRAMMAR_1040_wrong_masks_are_seen(mutant):
    done = judged("--mutant", mutant, "--seed", "5")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "[mutant" in done.stdout and "wrong 0" not in done.stdout, done.stdout + done.stderr
