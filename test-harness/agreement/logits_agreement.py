"""Judges the engine's distributions against llama.cpp's and against a float64 reference (.specs/engine-numerics.md, agreement).

usage: logits_agreement.py --model FILE --tool worker-logits [--texts N] [--positions N] [--reference-texts N] [--mutant NAME]

llama.cpp writes each text itself and reports its distribution at every position (the K most probable tokens; the rest is one
bucket, so a divergence here is a lower bound). The same ids are then forced through our engine. With --mutant the engine is broken
on purpose and the exit status is 0 only if the judgement is red.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

import ref_f64
from orch_cluster import llama_server, request

BEST = 256  # K
# Bounds: three times what was measured at the first right run, see .docs/decisions and .docs/benchmarks/agreement.md.
BOUNDS = {"mean_kl": 7e-3, "p99_kl": 3e-2, "max_kl": 0.1, "top1_share": 0.93, "delta_ln_ppl": 0.02}
REFERENCE_RATIO = 1.25
OPENINGS = [
    "The history of the lighthouse begins", "To make a good soup, first", "In mathematics, a prime number is", "The old ship sailed out of the harbour and",
    "A computer program is", "When the rain stopped, the children", "Photosynthesis is the process by which", "The king called his advisors and said",
    "Dear Sir or Madam, I am writing", "The river flows from the mountains", "Once upon a time in a small village",
    "The main difference between a virus and a bacterium",
    "My favourite season is autumn because", "In the year 1815, the", "Water boils at", "She opened the letter slowly and",
    "The first rule of gardening is", "Electric cars have become popular", "The theory of evolution explains", "He walked into the empty station",
    "A good teacher knows that", "The stock market fell sharply", "Bread is made from", "The moon orbits the Earth",
]


def reference_text(url, opening, positions, number):
    """(ids, first judged position, {position: {id: log-probability}}) of a text that llama.cpp writes."""
    prompt = request("POST", url + "/tokenize", {"content": opening, "add_special": False}).json()["tokens"]
    body = {"prompt": prompt, "n_predict": positions, "temperature": 0.7, "top_k": 40, "seed": number, "n_probs": BEST, "return_tokens": True,
            "ignore_eos": True, "cache_prompt": False}
    answer = request("POST", url + "/completion", body, timeout=600).json()
    steps = answer["completion_probabilities"]
    ids = prompt + [s["id"] for s in steps]
    told = {len(prompt) - 1 + k: {t["id"]: t["logprob"] for t in s["top_logprobs"]} for k, s in enumerate(steps)}
    return ids, told


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def our_log_probabilities(arguments, ids):
    with tempfile.NamedTemporaryFile() as raw:
        command = [arguments.tool, arguments.model, "--ctx", "2048", "--raw", raw.name]
        if arguments.mutant:
            command += ["--mutant", arguments.mutant]
        subprocess.run(command, input=" ".join(map(str, ids)).encode(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True)
        return log_softmax(np.fromfile(raw.name, dtype=np.float32).reshape(len(ids), -1))


def bucketed(log_probabilities):
    p = np.exp(log_probabilities)
    return np.append(p, max(1e-9, 1 - p.sum()))


def divergence(p, q):
    return float((p * np.log(p / np.maximum(q, 1e-12))).sum())


def judge_text(ids, told, ours, exact):
    rows = []
    for position, theirs in told.items():
        chosen = np.fromiter(theirs, dtype=np.int64)
        their_log = np.array([theirs[i] for i in chosen])
        order = np.sort(their_log)[::-1]
        p, q = bucketed(their_log), bucketed(ours[position][chosen])
        row = {"kl": divergence(p, q), "top1": int(ours[position].argmax()) == int(chosen[their_log.argmax()]), "margin": float(order[0] - order[1]),
               "difference": float(np.abs(ours[position][chosen[:8]] - their_log[:8]).max()), "rest": float(p[-1]),
               "ours": float(ours[position][ids[position + 1]]), "theirs": theirs.get(ids[position + 1])}
        if exact is not None:
            e = bucketed(exact[position][chosen])
            row |= {"kl_exact_ours": divergence(e, q), "kl_exact_theirs": divergence(e, p)}
        rows.append(row)
    return rows


def summary(rows):
    kl = np.array([r["kl"] for r in rows])
    largest = max(r["difference"] for r in rows)
    clear = [r for r in rows if r["margin"] > 2 * largest]
    both = [r for r in rows if r["theirs"] is not None]
    out = {"positions": len(rows), "mean_kl": kl.mean(), "p99_kl": np.quantile(kl, 0.99), "max_kl": kl.max(), "top1_share": np.mean([r["top1"] for r in rows]),
           "clear_positions": len(clear), "clear_top1_share": float(np.mean([r["top1"] for r in clear])) if clear else 1.0,
           "largest_log_probability_difference": largest, "mean_rest_mass": float(np.mean([r["rest"] for r in rows])),
           "delta_ln_ppl": abs(np.mean([r["ours"] for r in both]) - np.mean([r["theirs"] for r in both]))}
    exact = [r for r in rows if "kl_exact_ours" in r]
    if exact:
        out |= {"reference_positions": len(exact), "kl_exact_ours": np.mean([r["kl_exact_ours"] for r in exact]),
                "kl_exact_theirs": np.mean([r["kl_exact_theirs"] for r in exact])}
    return {k: round(float(v), 6) for k, v in out.items()}


def violations(result):
    found = [f"{k} {result[k]} > {BOUNDS[k]}" for k in ("mean_kl", "p99_kl", "max_kl", "delta_ln_ppl") if result[k] > BOUNDS[k]]
    if result["top1_share"] < BOUNDS["top1_share"]:
        found.append(f"top1_share {result['top1_share']} < {BOUNDS['top1_share']}")
    if result["clear_top1_share"] < 1:
        found.append(f"top-1 differs where llama.cpp is clear: {result['clear_top1_share']}")
    if "kl_exact_ours" in result and result["kl_exact_ours"] > REFERENCE_RATIO * result["kl_exact_theirs"]:
        found.append(f"farther from the float64 reference ({result['kl_exact_ours']}) than {REFERENCE_RATIO} x llama.cpp ({result['kl_exact_theirs']})")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tool", required=True)
    parser.add_argument("--texts", type=int, default=20)
    parser.add_argument("--positions", type=int, default=128)
    parser.add_argument("--reference-texts", type=int, default=3)
    parser.add_argument("--mutant")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    exact_model = ref_f64.Reference(arguments.model) if arguments.reference_texts else None
    rows = []
    with llama_server(arguments.model, ctx=1024) as url:
        for number in range(arguments.texts):
            ids, told = reference_text(url, OPENINGS[number % len(OPENINGS)], arguments.positions, number)
            exact = exact_model.log_probabilities(ids) if number < arguments.reference_texts else None
            rows += judge_text(ids, told, our_log_probabilities(arguments, ids), exact)
    result = summary(rows)
    found = violations(result)
    print(json.dumps(result, indent=1))
    print("\n".join(found))
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps({**result, "violations": found}, indent=1) + "\n")
    if arguments.mutant:
        print(f"mutant {arguments.mutant}: {'caught' if found else 'NOT CAUGHT'}")
        sys.exit(0 if found else 1)
    print(f"agreement: {'1 passed' if not found else '1 failed'}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
