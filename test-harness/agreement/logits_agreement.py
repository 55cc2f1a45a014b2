"""Judges the engine's distributions against llama.cpp's and against a float64 reference (.specs/engine-numerics.md, agreement).

usage: logits_agreement.py --model FILE --tool worker-logits [--texts N] [--positions N] [--reference-texts N] [--prose N]
                           [--itself] [--json FILE]

llama.cpp writes each text itself and reports its distribution at every position (the 256 most probable tokens; the rest is one
bucket, so a divergence here is a lower bound). The same ids are then forced through our engine. Perplexity is measured on prose
that neither engine wrote. --itself compares llama.cpp with llama.cpp in another configuration on the same ids, for scale.
"""

import argparse
import contextlib
import json
import pathlib
import sys

import engines
import judgement
import ref_f64
from orch_cluster import llama_server

PROSE_TOKENS = 211  # of a text: 210 judged positions
# Another path through llama.cpp's CPU code: plain attention over a float32 cache, no repacked weights.
OTHER_CONFIGURATION = ["--flash-attention", "off", "--cache", "f32", "--no-repack"]


def compare_written(arguments, llama, ours, reference, other):
    rows, other_rows = [], []
    for number in range(arguments.texts):
        text, places = llama.write(number, arguments.positions)
        exact = reference.log_probabilities(text.ids) if number < arguments.reference_texts else None
        rows += judgement.judge_text(text, places, ours.log_probabilities(text.ids), exact)
        if other is not None:
            other_rows += judgement.judge_text(text, places, other.force(text))
    return rows, other_rows


def compare_prose(arguments, llama, ours, other):
    rows, other_rows = [], []
    for text in engines.prose(llama.tokenize, arguments.prose, PROSE_TOKENS):
        places = llama.force(text, best=16)
        rows += judgement.judge_text(text, places, ours.log_probabilities(text.ids))
        if other is not None:
            other_rows += judgement.judge_text(text, places, other.force(text, best=16))
    return rows, other_rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tool", required=True)
    parser.add_argument("--texts", type=int, default=20)
    parser.add_argument("--positions", type=int, default=128)
    parser.add_argument("--reference-texts", type=int, default=20)
    parser.add_argument("--prose", type=int, default=40, help="texts of 210 positions for the perplexity")
    parser.add_argument("--threads", type=int, default=2, help="of each engine; with others on the machine 1 is the faster")
    parser.add_argument("--itself", action="store_true")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        reference = ref_f64.Reference(arguments.model)
        llama = engines.LlamaCpp(stack.enter_context(llama_server(arguments.model, threads=arguments.threads, ctx=1024)))
        other = None
        if arguments.itself:
            other = engines.LlamaCpp(stack.enter_context(llama_server(arguments.model, threads=arguments.threads, ctx=1024, options=OTHER_CONFIGURATION)))
        ours = stack.enter_context(engines.OurEngine(arguments.tool, arguments.model, reference.vocabulary, "--threads", str(arguments.threads)))
        rows, other_rows = compare_written(arguments, llama, ours, reference, other)
        prose, other_prose = compare_prose(arguments, llama, ours, other) if arguments.prose else ([], [])
    result = judgement.summary(rows)
    if prose:
        result |= judgement.perplexity(prose)
    found = judgement.violations(result)
    report = {"ours": judgement.rounded(result)}
    if other_rows:
        report["llama.cpp_itself"] = judgement.rounded(judgement.summary(other_rows) | (judgement.perplexity(other_prose) if other_prose else {}))
    print(json.dumps(report, indent=1))
    print("\n".join(found))
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps({**report, "violations": found}, indent=1) + "\n")
    print(f"agreement: {'1 passed' if not found else '1 failed'}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
