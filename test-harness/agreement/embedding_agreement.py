"""Embeddings of workerd against llama.cpp's on the same file: the cosine is at least 0.999 in the mean over texts, and of models of
float weights for each text. Of --model, whose activations both engines round to eight bits, each in its own way, it is at least 0.998.

usage: embedding_agreement.py --workerd PATH [--model FILE] [--texts N] [--json FILE]

Every pooling is judged on --model and on small random models of other architectures. Beside it two judges of the judge: vectors of
different texts, and ours of one pooling beside llama.cpp's of another, must be farther apart than the bound.
"""
import argparse
import itertools
import json
import pathlib
import pydoc_data.topics
import statistics
import subprocess
import sys
import tempfile

import numpy as np

import engines
import tiny_models
from orch_cluster import llama_server, request

BOUND = 0.999
ROUNDED_BOUND = 0.998  # of a single text; the lowest of 28 measured on the default model is 0.99878 (ADR-0010)
POOLINGS = ["mean", "cls", "last"]
TINY = ["llama", "qwen2", "qwen3", "gemma3"]
# Its tokenizer puts a token behind each text, which the pooling `last` reads (OC-ENGINE-1013).
WITH_EOS = tiny_models.Variant("llama-eos", "llama", tied=False, add_eos=True)


def texts(count):
    """Short openings, and paragraphs of about a hundred tokens of the language reference that comes with Python."""
    topics = [" ".join(pydoc_data.topics.topics[key].split())[:400] for key in sorted(pydoc_data.topics.topics)]
    return list(itertools.islice((text for pair in zip(engines.OPENINGS, topics) for text in pair), count))


def ours(workerd, model, pooling, lines):
    done = subprocess.run([workerd, "--model", model, "--device", "cpu", "--ctx", "1024", "--embed", pooling], input="\n".join(lines) + "\n",
                          capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"workerd ended with {done.returncode}: {done.stderr[-400:]}")
    return [np.array(line.split(), dtype=np.float32) for line in done.stdout.splitlines()]


def theirs(model, pooling, lines):
    with llama_server(model, threads=1, ctx=1024, options=["--embeddings", pooling]) as url:
        out = []
        for line in lines:
            reply = request("POST", url + "/v1/embeddings", {"input": line, "model": "any"}, timeout=600)
            if reply.status != 200:
                raise RuntimeError(f"/v1/embeddings: {reply.status} {reply.body[:300]}")
            out.append(np.array(reply.json()["data"][0]["embedding"], dtype=np.float64))
    return out


def cosine(a, b):
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


def judge(workerd, model, lines):
    """Lowest and mean cosine of the same text and highest of different texts, by pooling; and the highest across poolings."""
    mine = {p: ours(workerd, model, p, lines) for p in POOLINGS}
    other = {p: theirs(model, p, lines) for p in POOLINGS}
    for vector in itertools.chain(*mine.values()):
        if len(vector) != len(other["mean"][0]) or abs(np.linalg.norm(vector.astype(np.float64)) - 1) > 1e-5:
            raise RuntimeError(f"a vector of {len(vector)} numbers of length {np.linalg.norm(vector)}")
    # The first tokens of texts are often the same, and then so are their vectors.
    same = {p: [f(list(map(cosine, mine[p], other[p]))) for f in (min, statistics.mean)] for p in POOLINGS}
    different = {p: max(cosine(mine[p][i], other[p][i - 1]) for i in range(len(lines))) for p in POOLINGS if p != "cls"}
    across = max(cosine(a, b) for p, q in itertools.permutations(POOLINGS, 2) for a, b in zip(mine[p], other[q]))
    return same, different, across


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workerd", required=True)
    parser.add_argument("--model", help="GGUF file, judged beside the small ones")
    parser.add_argument("--texts", type=int, default=12)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    lines, report, wrong = texts(arguments.texts), {}, []
    with tempfile.TemporaryDirectory() as directory:
        models = {pathlib.Path(arguments.model).stem: arguments.model} if arguments.model else {}
        for variant in [*(v for v in tiny_models.variants() if v.name in TINY), WITH_EOS]:
            models[variant.name] = str(pathlib.Path(directory) / f"{variant.name}.gguf")
            tiny_models.make(models[variant.name], variant)
        for name, path in models.items():
            same, different, across = judge(arguments.workerd, path, lines)
            lowest = ROUNDED_BOUND if path == arguments.model else BOUND
            good = all(low >= lowest and mean >= BOUND for low, mean in same.values()) and max(*different.values(), across) < lowest
            report[name] = {"same": same, "different": different, "across": across}
            print(f"{name:28} lowest and mean cosine " + ", ".join(f"{p} {low:.6f} {mean:.6f}" for p, (low, mean) in same.items()) +
                  f"; different texts at most {max(different.values()):.4f}, other poolings {across:.4f}{'' if good else '  WRONG'}", flush=True)
            if not good:
                wrong.append(name)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n")
    print(f"embeddings: {len(lines)} texts, {len(report) - len(wrong)} models passed, {len(wrong)} failed{': ' + ', '.join(wrong) if wrong else ''}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
