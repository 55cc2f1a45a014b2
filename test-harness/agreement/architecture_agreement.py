"""Every architecture and weight type on a tiny random model, teacher-forced: our logits against llama.cpp's on the same file.

usage: architecture_agreement.py --tool worker-logits [--only NAME] [--positions N] [--mutant NAME] [--json FILE]

Float models are held to a bound near rounding, since both engines then differ only in order of sums, attention in half precision
and table look-ups; quantised ones to a bound for two ways of rounding activations. With --mutant the engine is wrong on purpose
and each judged model must be over its bound.
"""
import argparse
import json
import pathlib
import sys
import tempfile

import numpy as np

import engines
import tiny_models
from orch_cluster import llama_server, request

# Mean and largest divergence in nat; what was measured is in .docs/benchmarks/agreement.md. OC-ENGINE-1014 allows every float type
# what BF16 has here, for which llama.cpp rounds activations too.
BOUNDS = {"F32": (2e-5, 1e-4), "F16": (2e-5, 1e-4), "BF16": (1e-4, 1e-3)}
QUANTISED_BOUND = (1e-2, 1e-1)


def whole_distributions(url, ids, vocabulary, plain):
    """llama.cpp's log-probabilities of every token after each prefix. The token `plain` is forced by a bias, which the reported
    numbers precede: a token that ends a text or is a part of a character would not be reported."""
    for end in range(1, len(ids) + 1):
        body = {"prompt": ids[:end], "n_predict": 1, "temperature": 0, "n_probs": vocabulary, "logit_bias": [[plain, 1000.0]], "cache_prompt": True}
        reply = request("POST", url + "/completion", body, timeout=600)
        if reply.status != 200:
            raise RuntimeError(f"/completion: {reply.status} {reply.body[:300]}")
        step = reply.json()["completion_probabilities"][0]
        log = np.full(vocabulary, -np.inf)
        for token in step["top_logprobs"]:
            log[token["id"]] = token["logprob"]
        if not np.isfinite(log).all():
            raise RuntimeError(f"llama.cpp named {len(step['top_logprobs'])} of {vocabulary} tokens after {end}")
        yield log


def judge(tool, path, variant, vocabulary, positions, options):
    """Divergences of our distribution from llama.cpp's whole one, at each position of one text of random tokens."""
    rng = np.random.default_rng([7, *variant.name.encode()])
    ids = rng.integers(8, vocabulary, positions).tolist()
    with llama_server(str(path), ctx=512) as url, engines.OurEngine(tool, str(path), vocabulary, "--threads", "2", *options) as ours:
        mine = ours.log_probabilities(ids)
        theirs = np.array(list(whole_distributions(url, ids, vocabulary, tiny_models.PLAIN_TOKEN[variant.pre == "spm"])))
    return (np.exp(theirs) * (theirs - mine)).sum(axis=-1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", required=True)
    parser.add_argument("--only", default="", help="variants whose name contains this")
    parser.add_argument("--positions", type=int, default=96)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutant")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    options = ["--mutant", arguments.mutant] if arguments.mutant else []
    report, wrong = {}, []
    with tempfile.TemporaryDirectory() as directory:
        for variant in tiny_models.variants():
            if arguments.only not in variant.name:
                continue
            path = pathlib.Path(directory) / f"{variant.name}.gguf"
            vocabulary = tiny_models.make(path, variant, arguments.seed)
            divergence = judge(arguments.tool, path, variant, vocabulary, arguments.positions, options)
            path.unlink()
            mean_bound, max_bound = BOUNDS.get(variant.type, QUANTISED_BOUND)
            over = divergence.mean() > mean_bound or divergence.max() > max_bound
            report[variant.name] = {"mean_kl": float(f"{divergence.mean():.3g}"), "max_kl": float(f"{divergence.max():.3g}"), "over": bool(over)}
            print(f"{variant.name:24} mean KL {divergence.mean():.2e}  max {divergence.max():.2e}  {'OVER ITS BOUND' if over else 'within'}", flush=True)
            if over != bool(arguments.mutant):
                wrong.append(variant.name)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n")
    print(f"architectures: {len(report) - len(wrong)} passed, {len(wrong)} failed{': ' + ', '.join(wrong) if wrong else ''}")
    sys.exit(1 if wrong or not report else 0)


if __name__ == "__main__":
    main()
