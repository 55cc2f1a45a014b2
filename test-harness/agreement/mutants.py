"""Shows that each wrong engine of ENGINE-RULES is seen (OC-NUM-1504): `mutants.py --model FILE --tool worker-logits`.

Three judges, and the right engine is green before each of them:
  bytes      scalar, SIMD and one-token steps give equal logits, frozen as a hash; a mutant must differ. So do two replicas, processes
             that run at once with other threads, steps or instructions.
  float      a small model with float32 weights (float_model.py) against the float64 reference: nothing there is quantised, so a wrong
             constant cannot hide behind the rounding of activations.
  llama.cpp  the bounds of judgement.py over teacher-forced texts.
A mutant that changes the computation must be seen by the bytes and by one of the independent judges. A fused operation and another
split change only last bits, below every rounding that engines differ by: they are for the bytes alone. Exit 0 only if all of this holds.

The missing first token is a mutant of the ids: our side gets each conversation without its first token. This model's tokenizer adds
no BOS; its chat template begins with <|im_start|>, which is the model's BOS, so that is the token to lose.
"""

import argparse
import contextlib
import hashlib
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

import engines
import float_model
import judgement
import ref_f64
from orch_cluster import MODEL_SHA256, llama_server

LAST_BITS = ["fused-multiply-add", "split-of-128"]
WRONG = ["swapped-nibbles", "neox-rope", "eps-times-10", "position-off-by-one", "wrong-head-scale"]
MISSING_FIRST = "missing-first-token"
BYTE_IDS = [1, 4093, 198, 504, 3575, 282, 260, 7438, 28, 284, 253, 1789]
# Three times what was measured (2.2e-8): float32 against float64, both with a float16 cache.
FLOAT_MEAN_KL_MAX = 6.6e-8
FLOAT_POSITIONS = 300  # beyond one attention split
# Two replicas: processes that run at once and differ in threads, steps or instructions, over a prompt of so many positions.
REPLICAS = [(264, ["--isa", "auto", "--threads", "1"], ["--isa", "auto", "--threads", "3", "--chunk", "47"]),
            (12, ["--isa", "scalar", "--threads", "2"], ["--isa", "auto", "--threads", "1", "--chunk", "5"])]
# SHA-256 of the default model's logits of BYTE_IDS (f32, row by row). A change here is a change of the numerics contract.
GOLDEN = "12619b9b94b8572183b330ec419fd66e12a65f2d825df21af63d950eb8c8d0d6"


class Harness:
    """Texts of llama.cpp with its distributions, and engines to hold against them."""

    def __init__(self, arguments, reference, llama):
        self.tool, self.model, self.vocabulary, self.threads = arguments.tool, arguments.model, reference.vocabulary, str(arguments.threads)
        written = [llama.write(number, arguments.positions) for number in range(arguments.texts)]
        self.texts = [(text, places, reference.log_probabilities(text.ids)) for text, places in written]

    def engine(self, *options):
        return engines.OurEngine(self.tool, self.model, self.vocabulary, "--threads", self.threads, *options)

    def byte_hash(self, *options):
        with self.engine(*options) as engine:
            return hashlib.sha256(engine.logits(BYTE_IDS).tobytes()).hexdigest()

    def replica_hashes(self, positions, *sides):
        ids = [1 + 4093 * place % 40000 for place in range(positions)]
        with contextlib.ExitStack() as stack:
            replicas = [stack.enter_context(engines.OurEngine(self.tool, self.model, self.vocabulary, *options)) for options in sides]
            return [hashlib.sha256(replica.logits(ids).tobytes()).hexdigest() for replica in replicas]

    def float_violations(self, *options):
        with tempfile.TemporaryDirectory() as directory:
            path, ids = f"{directory}/float.gguf", float_model.ids(FLOAT_POSITIONS)
            float_model.write(path)
            with engines.OurEngine(self.tool, path, float_model.VOCABULARY, *options) as engine:
                ours = engine.log_probabilities(ids)
            exact = ref_f64.Reference(path, np.float16).log_probabilities(ids)
        mean = float((np.exp(exact) * (exact - ours)).sum(axis=-1).mean())
        return [] if mean <= FLOAT_MEAN_KL_MAX else [f"mean KL {mean:.1e}"]

    def llama_violations(self, *options, missing_first=False):
        rows = []
        with self.engine(*options) as engine:
            for text, places, exact in self.texts:
                if missing_first and not text.chat:
                    continue
                ours = engine.log_probabilities(text.ids[1:] if missing_first else text.ids)
                # Row k answers for position k + 1 of the whole text; position 0 is never judged in a conversation.
                ours = ours if not missing_first else [None, *ours]
                rows += judgement.judge_text(text, places, dict(enumerate(ours)), exact)
        return judgement.violations(judgement.summary(rows))


def unknown_name_is_refused(harness):
    done = subprocess.run([harness.tool, harness.model, "--mutant", "no-such-mutant"], input=b"1\n", capture_output=True, check=False)
    return done.returncode == 65 and b"allowed: " in done.stderr


def replica_complaints(harness):
    """OC-NUM-1001: replicas agree to the byte, and one that is wrong in its last bits would be seen."""
    complaints = []
    for positions, left, right in REPLICAS:
        if len(set(harness.replica_hashes(positions, left, right))) != 1:
            complaints.append(f"replicas with {' '.join(left)} and with {' '.join(right)} differ over {positions} positions")
    positions, left, right = REPLICAS[-1]
    if len(set(harness.replica_hashes(positions, left, [*right, "--mutant", LAST_BITS[0]]))) == 1:
        complaints.append("a wrong replica is not seen")
    return complaints


def right_engine(harness):
    """Complaints about the engine as it is, and its hash."""
    hashes = {name: harness.byte_hash(*options) for name, options in
              {"scalar": ["--isa", "scalar"], "simd": ["--isa", "auto"], "one token a step": ["--chunk", "1"]}.items()}
    complaints = [f"bytes of '{name}' differ from the scalar ones" for name, value in hashes.items() if value != hashes["scalar"]]
    if hashlib.sha256(pathlib.Path(harness.model).read_bytes()).hexdigest() == MODEL_SHA256 and hashes["scalar"] != GOLDEN:
        complaints.append(f"logits hash {hashes['scalar']} is not the frozen {GOLDEN}")
    complaints += replica_complaints(harness)
    complaints += [f"the right engine is far from the reference on the float model: {v}" for v in harness.float_violations()]
    complaints += [f"the right engine breaks a bound: {v}" for v in harness.llama_violations()]
    if not unknown_name_is_refused(harness):
        complaints.append("worker-logits takes an unknown mutant")
    workerd = pathlib.Path(harness.tool).with_name("workerd")
    if workerd.exists() and any(name.encode() in workerd.read_bytes() for name in LAST_BITS + WRONG):
        complaints.append("workerd contains a mutant")
    return complaints, hashes["scalar"]


def judge_mutants(harness, right_hash):
    """Prints a line per mutant; for each whether it was caught."""
    caught = []

    def say(name, good, by_bytes, by_float, by_llama):
        print(f"{name}: {'caught' if good else 'NOT CAUGHT'}; bytes: {by_bytes}; float: {by_float}; llama.cpp: {by_llama}", flush=True)
        caught.append(good)

    for name in WRONG:
        differs = harness.byte_hash("--mutant", name) != right_hash
        by_float, by_llama = harness.float_violations("--mutant", name), harness.llama_violations("--mutant", name)
        say(name, differs and (by_float != [] or by_llama != []), "red" if differs else "green", *("; ".join(v) or "green" for v in (by_float, by_llama)))
    for name in LAST_BITS:
        differs = harness.byte_hash("--mutant", name) != right_hash
        say(name, differs, "red" if differs else "green", "not asked", "not asked")
    by_llama = harness.llama_violations(missing_first=True)
    say(MISSING_FIRST, by_llama != [], "not asked", "not asked", "; ".join(by_llama) or "green")
    return caught


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tool", required=True)
    parser.add_argument("--texts", type=int, default=6)
    parser.add_argument("--positions", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        reference = ref_f64.Reference(arguments.model)
        llama = engines.LlamaCpp(stack.enter_context(llama_server(arguments.model, threads=arguments.threads, ctx=1024)))
        harness = Harness(arguments, reference, llama)
    complaints, right_hash = right_engine(harness)
    print("\n".join(complaints) or f"right engine: green, logits {right_hash}")
    good = judge_mutants(harness, right_hash)
    print(f"mutants: {sum(good)} passed, {len(good) - sum(good)} failed")
    sys.exit(0 if all(good) and not complaints else 1)


if __name__ == "__main__":
    main()
