"""Shows that each wrong engine of ENGINE-RULES is seen (OC-NUM-1504): `mutants.py --model FILE --tool worker-logits`.

Two judges. Bytes: scalar, SIMD and one-token steps of the right engine give equal logits, frozen as a hash; a mutant must differ.
llama.cpp: the bounds of judgement.py over teacher-forced texts; every mutant that changes the computation must break one, and the
right engine none. A fused operation and another split change only last bits: llama.cpp rounds further away than that, so they are
for the bytes alone. Exit 0 only if all of this holds.

The missing first token is a mutant of the ids: our side gets each conversation without its first token. This model's tokenizer adds
no BOS; its chat template begins with <|im_start|>, which is the model's BOS, so that is the token to lose.
"""

import argparse
import contextlib
import hashlib
import pathlib
import subprocess
import sys

import engines
import judgement
import ref_f64
from orch_cluster import MODEL_SHA256, llama_server

LAST_BITS = ["fused-multiply-add", "split-of-128"]
WRONG = ["swapped-nibbles", "neox-rope", "eps-times-10", "position-off-by-one", "wrong-head-scale"]
MISSING_FIRST = "missing-first-token"
BYTE_IDS = [1, 4093, 198, 504, 3575, 282, 260, 7438, 28, 284, 253, 1789]
# SHA-256 of the default model's logits of BYTE_IDS (f32, row by row). A change here is a change of the numerics contract.
GOLDEN = "12619b9b94b8572183b330ec419fd66e12a65f2d825df21af63d950eb8c8d0d6"


class Harness:
    """Texts of llama.cpp with its distributions, and engines to hold against them."""

    def __init__(self, arguments, reference, llama):
        self.tool, self.model, self.vocabulary = arguments.tool, arguments.model, reference.vocabulary
        written = [llama.write(number, arguments.positions) for number in range(arguments.texts)]
        self.texts = [(text, places, reference.log_probabilities(text.ids)) for text, places in written]

    def engine(self, *options):
        return engines.OurEngine(self.tool, self.model, self.vocabulary, "--threads", "2", *options)

    def byte_hash(self, *options):
        with self.engine(*options) as engine:
            return hashlib.sha256(engine.logits(BYTE_IDS).tobytes()).hexdigest()

    def violations(self, *options, missing_first=False):
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


def right_engine(harness):
    """Complaints about the engine as it is, and its hash."""
    hashes = {name: harness.byte_hash(*options) for name, options in
              {"scalar": ["--isa", "scalar"], "simd": ["--isa", "auto"], "one token a step": ["--chunk", "1"]}.items()}
    complaints = [f"bytes of '{name}' differ from the scalar ones" for name, value in hashes.items() if value != hashes["scalar"]]
    if hashlib.sha256(pathlib.Path(harness.model).read_bytes()).hexdigest() == MODEL_SHA256 and hashes["scalar"] != GOLDEN:
        complaints.append(f"logits hash {hashes['scalar']} is not the frozen {GOLDEN}")
    complaints += [f"the right engine breaks a bound: {v}" for v in harness.violations()]
    if not unknown_name_is_refused(harness):
        complaints.append("worker-logits takes an unknown mutant")
    workerd = pathlib.Path(harness.tool).with_name("workerd")
    if workerd.exists() and any(name.encode() in workerd.read_bytes() for name in LAST_BITS + WRONG):
        complaints.append("workerd contains a mutant")
    return complaints, hashes["scalar"]


def report(name, by_bytes, by_llama, caught):
    print(f"{name:20} {'caught' if caught else 'NOT CAUGHT':10} bytes: {by_bytes:6} llama.cpp: {by_llama}", flush=True)
    return caught


def judge_mutants(harness, right_hash):
    good = []
    for name in WRONG + LAST_BITS:
        differs = harness.byte_hash("--mutant", name) != right_hash
        found = harness.violations("--mutant", name) if name in WRONG else None
        said = "not asked (last bits only)" if found is None else "; ".join(found) or "green"
        good.append(report(name, "red" if differs else "green", said, differs and (found is None or found != [])))
    found = harness.violations(missing_first=True)
    good.append(report(MISSING_FIRST, "-", "; ".join(found) or "green", found != []))
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tool", required=True)
    parser.add_argument("--texts", type=int, default=6)
    parser.add_argument("--positions", type=int, default=64)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        reference = ref_f64.Reference(arguments.model)
        llama = engines.LlamaCpp(stack.enter_context(llama_server(arguments.model, ctx=1024)))
        harness = Harness(arguments, reference, llama)
    complaints, right_hash = right_engine(harness)
    print("\n".join(complaints) or f"right engine: green, logits {right_hash}")
    good = judge_mutants(harness, right_hash)
    print(f"mutants: {sum(good)} passed, {len(good) - sum(good)} failed")
    sys.exit(0 if all(good) and not complaints else 1)


if __name__ == "__main__":
    main()
