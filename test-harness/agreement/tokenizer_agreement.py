#!/usr/bin/env python3
"""Token ids of our tokenizer against llama.cpp's, over a generated Unicode corpus (hard gate, .specs engine numerics).

llama.cpp runs as its own server (package xllamacpp) and is asked with add_special=true (a BOS where the vocabulary wants one) and
parse_special=false. Exit 0 iff there is no difference.

usage: tokenizer_agreement.py --model FILE.gguf|--tiny --tool build/.../tokenize_tool [--cases 6000] [--seed 1]

--tiny takes the vocabularies that tiny_models.py trains instead of a model's: one for each pre-tokenizer and SentencePiece. With one whose
merges tell them, the classes of code points are compared too (OC-ENGINE-1031): of each in the first two planes, of both sides of each
border of the committed table, and of every 61st beyond.
"""
import argparse
import http.client
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import unicodedata
import urllib.parse

TABLE = pathlib.Path(__file__).resolve().parents[2] / "worker/text/unicode_categories.h"
WORDS = ("the quick brown fox jumps over lazy dogs I'm we've they'll can't DON'T Hello WORLD rain haiku moon "
         "Straße naïve café coöperate Ελληνικά Привет мир 你好 世界 こんにちは 안녕하세요 שלום مرحبا नमस्ते ไทย").split()
SPECIALS = ["<tool>", "<s>", "</s>", "<start_of_turn>", "<0x41>", "\u2581", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<repo_name>", "<|im_", "|>", "<|"]
SPACES = [" ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", " \n ", "\u00a0", "\u2003", "\u3000", "\u2028", "\u0085", "\x1c"]


def is_scalar(code):
    return 0 < code < 0x110000 and not 0xD800 <= code <= 0xDFFF


def make_pools():
    everything = [c for c in range(0x110000) if is_scalar(c)]
    kinds = {}
    for code in everything:
        kinds.setdefault(unicodedata.category(chr(code))[0], []).append(code)
    kinds["any"] = everything
    return kinds


def make_case(rng, pools):
    style = rng.randrange(8)
    if style == 0:
        return "".join(rng.choice(WORDS) + rng.choice(SPACES) for _ in range(rng.randrange(1, 12)))
    if style == 1:
        return "".join(chr(rng.choice(pools["any"])) for _ in range(rng.randrange(1, 20)))
    if style == 2:
        kinds = [rng.choice("LLLNNMPSZC") for _ in range(rng.randrange(1, 24))]
        return "".join(chr(rng.choice(pools[kind])) for kind in kinds)
    if style == 3:
        return "".join(chr(rng.randrange(1, 128)) for _ in range(rng.randrange(1, 60)))
    if style == 4:
        return "".join(rng.choice(["0", "12", "345", "6.7", "a1b", " 8", "٣", "½", "Ⅷ", "x²"]) for _ in range(rng.randrange(1, 12)))
    if style == 5:
        return "".join(rng.choice(SPACES + ["a", "'s", "'", "!", "9"]) for _ in range(rng.randrange(1, 16)))
    if style == 6:
        return "".join(rng.choice(SPECIALS + WORDS + [" "]) for _ in range(rng.randrange(1, 10)))
    return "".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 8))) + "".join(
        rng.choice("{}[]()<>=+-*/\\\"';:,.?!@#$%^&_`~| \n") for _ in range(rng.randrange(1, 30)))


def class_cases():
    """Each code point behind a letter, a digit, a sign and a space, some hundred to a text."""
    borders = [int(first, 16) for first in re.findall(r"\{0x([0-9A-F]+), ", TABLE.read_text(encoding="ascii"))]
    codes = {*range(0x20000), *range(0x20000, 0x110000, 61), *borders, *(border - 1 for border in borders), 0x10FFFF}
    pieces = [f"x{chr(c)} 7{chr(c)} !{chr(c)} {chr(c)}\n" for c in sorted(codes) if is_scalar(c)]
    return ["".join(pieces[i:i + 400]) for i in range(0, len(pieces), 400)]


def theirs(model, cases):
    import xllamacpp
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = 512
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.warmup = False
    server = xllamacpp.Server(params)
    address = urllib.parse.urlparse(server.listening_address)
    connection = http.client.HTTPConnection(address.hostname, address.port)
    for text in cases:
        body = json.dumps({"content": text, "add_special": True, "parse_special": False})
        connection.request("POST", "/tokenize", body, {"Content-Type": "application/json"})
        yield json.loads(connection.getresponse().read())["tokens"]


def compare(tool, model, cases):
    """The number of texts with a difference."""
    lines = "".join(json.dumps({"text": text}) + "\n" for text in cases)
    ours = subprocess.run([tool, model], input=lines, capture_output=True, text=True, check=True).stdout
    ours = [json.loads(line) for line in ours.splitlines()]
    assert len(ours) == len(cases)
    tokens, wrong = 0, []
    for text, mine, other in zip(cases, ours, theirs(model, cases)):
        tokens += len(other)
        if mine != other:
            wrong.append((text, mine, other))
    for text, mine, other in wrong[:20]:
        at = next((i for i, pair in enumerate(zip(mine, other)) if pair[0] != pair[1]), min(len(mine), len(other)))
        print(f"DIFFERENT at token {at} of {text[:200]!r}\n  ours   {mine[at:at + 40]}\n  theirs {other[at:at + 40]}")
    print(f"{model.rsplit('/', 1)[-1]}: strings {len(cases)}, tokens {tokens}, equal {len(cases) - len(wrong)}, different {len(wrong)}", flush=True)
    return len(wrong)


def compare_tiny(tool, cases):
    import tiny_models
    wrong = 0
    with tempfile.TemporaryDirectory() as directory:
        for pre in ("gpt-2", "smollm", "llama-bpe", "qwen2", "spm", "spm-prefix"):
            path = f"{directory}/{pre}.gguf"
            tiny_models.make(path, tiny_models.Variant(pre, "llama", pre=pre, layers=1))
            wrong += compare(tool, path, cases)
        for pre in ("smollm", "spm"):
            path = f"{directory}/{pre}-eos.gguf"
            tiny_models.make(path, tiny_models.Variant(pre, "llama", pre=pre, add_eos=True, layers=1))
            wrong += compare(tool, path, cases[:500])
        for pre in ("gpt-2", "smollm", "llama-bpe", "qwen2"):
            path = f"{directory}/{pre}-classes.gguf"
            tiny_models.make(path, tiny_models.Variant(pre, "llama", pre=pre, merges="classes", layers=1))
            wrong += compare(tool, path, class_cases())
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--tool", required=True)
    parser.add_argument("--cases", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.tiny == bool(arguments.model):
        parser.error("one of --model and --tiny")
    rng = random.Random(arguments.seed)
    pools = make_pools()
    cases = [make_case(rng, pools) for _ in range(arguments.cases)]
    wrong = compare_tiny(arguments.tool, cases) if arguments.tiny else compare(arguments.tool, arguments.model, cases)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
