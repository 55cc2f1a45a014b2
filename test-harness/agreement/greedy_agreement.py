"""Greedy tokens against llama.cpp's first choice, teacher-forced, over many seeds: what the haiku gate's judgement can ask for.

usage: greedy_agreement.py --model FILE --tool worker-logits [--seeds N] [--tokens N]

Each engine goes on greedily from the gate's random prefixes; llama.cpp in its default configuration judges every token. Beside our
engine stand llama.cpp's own other configurations. Prints, per engine: the share of first choices (all, and the lowest of a seed),
the widest gap, and of the places where the engines part how many have a margin beyond each limit. Measures; judges nothing.
"""

import argparse
import contextlib
import pathlib
import random
import subprocess
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "haiku"))
import haiku_gate  # noqa: E402
from orch_cluster import llama_server  # noqa: E402

CONFIGURATIONS = {
    "plain attention": ["--flash-attention", "off"],
    "plain attention, float32 cache, no repack": ["--flash-attention", "off", "--cache", "f32", "--no-repack"],
}
LIMITS = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5]
OUT_OF_LIST = 99.0  # nat, for a token that is not among the reference's first 20


def ours(arguments, prompts, count):
    command = [arguments.tool, arguments.model, "--ctx", "1024", "--threads", str(arguments.threads), "--greedy", str(count)]
    lines = "".join(" ".join(map(str, ids)) + "\n" for ids in prompts)
    answer = subprocess.run(command, input=lines, capture_output=True, text=True, check=True).stdout
    return [[int(i) for i in line.split()] for line in answer.splitlines()]


def theirs(reference, prompts, count):
    return [reference.post("/completion", {"prompt": ids, "n_predict": count, "temperature": 0, "return_tokens": True, "ignore_eos": False,
                                           "cache_prompt": False})["tokens"] for ids in prompts]


def judge(reference, prompt, tokens):
    """[(margin of the reference's first two, gap of the token taken)] along one text; the text ends where the model ends it."""
    out, ids = [], list(prompt)
    for token in tokens:
        best = reference.next_tokens(ids)
        gap = next((best[0][1] - c[1] for c in best if c[0] == token), OUT_OF_LIST)
        out.append((best[0][1] - best[1][1], gap if token != best[0][0] else 0.0, token == best[0][0]))
        if token == 2:  # <|im_end|>
            break
        ids.append(token)
    return out


def show(name, seeds):
    places = [p for seed in seeds for p in seed]
    shares = [np.mean([p[2] for p in seed]) for seed in seeds]
    parted = [p for p in places if not p[2]]
    print(f"{name}: {len(places)} tokens, first choice {np.mean([p[2] for p in places]):.4f} (lowest seed {min(shares):.4f}, seeds below 0.99: "
          f"{sum(s < 0.99 for s in shares)} of {len(shares)}), widest gap {max((p[1] for p in parted), default=0):.3f}, "
          f"widest margin missed {max((p[0] for p in parted), default=0):.3f}")
    for limit in LIMITS:
        print(f"    margin > {limit}: {sum(p[0] > limit for p in parted)} of {sum(p[0] > limit for p in places)} parted", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tool", required=True)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=haiku_gate.JUDGED_TOKENS)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    length = 128  # tokens after one prefix
    with contextlib.ExitStack() as stack:
        reference = haiku_gate.Reference(stack.enter_context(llama_server(arguments.model, threads=arguments.threads)))
        seeds = []
        for seed in range(1, arguments.seeds + 1):
            rng = random.Random(seed)
            seeds.append([reference.tokenize(haiku_gate.random_prefix(rng)) for _ in range(-(-arguments.tokens // length))])

        def measure(name, continue_all):
            show(name, [[p for prompt, tokens in zip(prompts, continue_all(prompts)) for p in judge(reference, prompt, tokens)] for prompts in seeds])

        print("prefixes:", sum(len(s) for s in seeds))
        measure("ours", lambda prompts: ours(arguments, prompts, length))
        for name, options in CONFIGURATIONS.items():
            with llama_server(arguments.model, threads=arguments.threads, options=options) as url:
                other = haiku_gate.Reference(url)
                measure(f"llama.cpp, {name}", lambda prompts, other=other: theirs(other, prompts, length))


if __name__ == "__main__":
    main()
