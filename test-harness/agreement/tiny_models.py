"""Small models with random weights, made from a seed: one for each architecture and weight type, as GGUF files that llama.cpp loads too.

usage: tiny_models.py --out DIRECTORY [--seed 1]    (writes every variant of variants())

The `gguf` package writes the files and quantises, so neither their layout nor their values come from code of this project. It
has no quantiser for K-quants: their blocks are random bits under chosen scales. The vocabularies are trained here on the language
reference that comes with Python.
"""
import argparse
import collections
import dataclasses
import functools
import pathlib
import pydoc_data.topics
import re

import gguf
import numpy as np

TYPES = ["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q5_0", "Q4_K", "Q4_1", "Q4_0"]
MERGES = 300
FOREIGN = "naïve café Straße Ελληνικά Привет мир 你好 世界 こんにちは 안녕하세요 שלום नमस्ते ไทย "
CONTROL, USER_DEFINED, BYTE, UNKNOWN, NORMAL = 3, 4, 6, 2, 1
PLAIN_TOKEN = (4 + ord("a"), 7 + ord("a"))  # the letter a in a byte-level and in an SPM vocabulary


@dataclasses.dataclass
class Variant:
    name: str
    architecture: str
    type: str = "F32"
    value_and_down: str = ""  # the type of attn_v and ffn_down, where files mix types
    merges: str = ""          # "classes": class_merges() instead of trained ones
    pre: str = "smollm"       # tokenizer.ggml.pre; or "spm", or "spm-prefix" that puts a space before texts
    scaling: str = ""         # "linear", "yarn" or "factors" (rope_freqs.weight)
    tied: bool = True
    layers: int = 2
    embedding: int = 256
    feed_forward: int = 512
    heads: int = 8
    kv_heads: int = 2
    head_dim: int = 32
    window: int = 0
    window_base: float = 0    # of positions in layers with a window, where it is not the architecture's own
    context: int = 1024
    add_eos: bool = False     # the tokenizer puts an end token behind each text
    chat_template: str = ""


def variants():
    out = [Variant("llama", "llama", tied=False), Variant("llama-linear", "llama", scaling="linear"), Variant("llama-yarn", "llama", scaling="yarn"),
           Variant("llama-factors", "llama", pre="llama-bpe", scaling="factors"), Variant("qwen2", "qwen2", pre="qwen2"),
           Variant("qwen2-yarn", "qwen2", pre="qwen2", scaling="yarn"), Variant("qwen3", "qwen3", pre="qwen2", head_dim=64),
           # Untied: tied to scaled embeddings, the head would name the last token whatever the layers do.
           Variant("gemma3", "gemma3", pre="spm", layers=7, head_dim=64, window=24, tied=False),
           Variant("gemma3-base", "gemma3", pre="spm", layers=6, window=16, window_base=300.0, tied=False),
           Variant("gemma3-linear", "gemma3", pre="spm", layers=6, window=16, scaling="linear", tied=False)]
    out += [Variant(f"llama-{t}", "llama", type=t) for t in TYPES[1:]]
    out += [Variant("qwen3-Q4_K-Q6_K", "qwen3", type="Q4_K", value_and_down="Q6_K", pre="qwen2", head_dim=64),
            Variant("gemma3-Q5_0-Q8_0", "gemma3", type="Q5_0", value_and_down="Q8_0", pre="spm", layers=7, window=24, tied=False),
            Variant("qwen2-Q5_K-Q5_1", "qwen2", type="Q5_K", value_and_down="Q5_1", pre="qwen2")]
    return out


def byte_symbols():
    """The printable character that stands for each byte in a byte-level vocabulary."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(others)) for b in range(256)]


def corpus():
    return FOREIGN * 40 + "\n".join(pydoc_data.topics.topics[k] for k in sorted(pydoc_data.topics.topics)[:12])


def train_merges(words, count):
    """Greedy byte-pair merges over {tuple of symbols: times}; ties go to the smallest pair, so that runs agree."""
    merges = []
    for _ in range(count):
        pairs = collections.Counter()
        for word, times in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += times
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        joined = collections.Counter()
        for word, times in words.items():
            out, i = [], 0
            while i < len(word):
                pair = i + 1 < len(word) and (word[i], word[i + 1]) == best
                out.append(word[i] + word[i + 1] if pair else word[i])
                i += 2 if pair else 1
            joined[tuple(out)] += times
        words = joined
    return merges


@functools.cache
def byte_level_merges():
    symbols = byte_symbols()
    words = collections.Counter(re.findall(r" ?\w+|\s+|[^\w\s]+", corpus()))
    return train_merges(collections.Counter({tuple(symbols[b] for b in w.encode()): n for w, n in words.items()}), MERGES)


@functools.cache
def pieces():
    text = corpus().replace(" ", "\u2581")
    words = collections.Counter(re.findall(r"\u2581?\w+|\u2581+|[^\w\u2581]", text))
    merges = train_merges(collections.Counter({tuple(w): n for w, n in words.items()}), MERGES)
    return list(dict.fromkeys([a + b for a, b in merges] + sorted(set(text))))


def class_merges():
    """A letter, a digit, a sign and a space each join the first byte of what follows in the same word, so that the tokens of a text
    tell the class of each code point: trained merges reach only a few of them."""
    symbols = byte_symbols()
    return [(symbols[ord(one)], symbols[first]) for one in "x7! " for first in (*range(0x80), *range(0xC2, 0xF5))]


def add_byte_level(writer, pre, merges):
    symbols = byte_symbols()
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool>"] + symbols + [a + b for a, b in merges]
    types = [CONTROL] * 3 + [USER_DEFINED] + [NORMAL] * (len(tokens) - 4)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_merges([f"{a} {b}" for a, b in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    return tokens, types


def add_spm(writer, space_prefix):
    """SentencePiece style: scores instead of merges, U+2581 for a space, bytes for what has no piece."""
    tokens = ["<pad>", "</s>", "<s>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<tool>"] + [f"<0x{b:02X}>" for b in range(256)] + pieces()
    types = [CONTROL] * 3 + [UNKNOWN] + [CONTROL] * 2 + [USER_DEFINED] + [BYTE] * 256 + [NORMAL] * len(pieces())
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_scores([0.0] * 7 + [0.0] * 256 + [-float(i) for i in range(len(pieces()))])
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(3)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(space_prefix)
    return tokens, types


def random_k_blocks(rng, rows, blocks, kind, scale):
    """Random bits under scales that give values of about +-scale. Sizes and places of the scales are ggml's."""
    size = {"Q4_K": 144, "Q5_K": 176, "Q6_K": 210}[kind]
    raw = rng.integers(0, 256, size=(rows, blocks, size), dtype=np.uint8)
    top = {"Q4_K": 32 * 15, "Q5_K": 32 * 31, "Q6_K": 64 * 63}[kind]
    d = (scale * rng.uniform(0.5, 1.5, size=(rows, blocks, 1)) * 2 / top).astype(np.float16)
    if kind == "Q6_K":
        raw[:, :, 208:] = d.view(np.uint8)
    else:
        raw[:, :, :2] = d.view(np.uint8)
        raw[:, :, 2:4] = np.full((rows, blocks, 1), scale / 32, np.float16).view(np.uint8)
    return raw.reshape(rows, blocks * size)


class Writer:
    def __init__(self, path, variant, seed):
        self.rng = np.random.default_rng([seed, *variant.name.encode()])
        self.variant = variant
        self.file = gguf.GGUFWriter(path, variant.architecture)

    def matrix(self, name, rows, cols, kind=None, deviation=1.0):
        kind = kind or self.variant.type
        scale = deviation * (3.0 / cols) ** 0.5
        kind_id = gguf.GGMLQuantizationType[kind]
        if kind in ("Q4_K", "Q5_K", "Q6_K"):
            return self.file.add_tensor(name, random_k_blocks(self.rng, rows, cols // 256, kind, scale), raw_dtype=kind_id)
        values = self.rng.uniform(-scale, scale, size=(rows, cols)).astype(np.float32)
        if kind == "F32":
            return self.file.add_tensor(name, values)
        return self.file.add_tensor(name, gguf.quants.quantize(values, kind_id), raw_dtype=kind_id)

    def vector(self, name, size, middle=1.0, spread=0.25):
        self.file.add_tensor(name, (middle + self.rng.uniform(-spread, spread, size)).astype(np.float32))


def add_metadata(w, v):
    f = w.file
    f.add_name(v.name)
    f.add_block_count(v.layers)
    f.add_context_length(v.context)
    f.add_embedding_length(v.embedding)
    f.add_feed_forward_length(v.feed_forward)
    f.add_head_count(v.heads)
    f.add_head_count_kv(v.kv_heads)
    f.add_key_length(v.head_dim)
    f.add_value_length(v.head_dim)
    f.add_rope_dimension_count(v.head_dim)
    f.add_rope_freq_base(1e6 if v.architecture == "gemma3" else 1e4)
    f.add_layer_norm_rms_eps(1e-6)
    if v.chat_template:
        f.add_chat_template(v.chat_template)
    if v.window:
        f.add_sliding_window(v.window)
    if v.window_base:
        f.add_rope_freq_base_swa(v.window_base)
    if v.scaling in ("linear", "yarn"):
        f.add_rope_scaling_type(gguf.RopeScalingType(v.scaling))
        f.add_rope_scaling_factor(4.0)
    if v.scaling == "yarn":
        f.add_rope_scaling_orig_ctx_len(256)


def add_layer(w, v, layer):
    p = f"blk.{layer}."
    q, kv, other = v.heads * v.head_dim, v.kv_heads * v.head_dim, v.value_and_down or None
    w.vector(p + "attn_norm.weight", v.embedding)
    w.matrix(p + "attn_q.weight", q, v.embedding)
    w.matrix(p + "attn_k.weight", kv, v.embedding)
    w.matrix(p + "attn_v.weight", kv, v.embedding, other)
    w.matrix(p + "attn_output.weight", v.embedding, q)
    if v.architecture == "qwen2":
        for name, size in (("q", q), ("k", kv), ("v", kv)):
            w.vector(p + f"attn_{name}.bias", size, 0.0, 0.5)
    if v.architecture in ("qwen3", "gemma3"):
        w.vector(p + "attn_q_norm.weight", v.head_dim, 1.5)
        w.vector(p + "attn_k_norm.weight", v.head_dim, 1.5)
    if v.architecture == "gemma3":
        w.vector(p + "post_attention_norm.weight", v.embedding)
        w.vector(p + "post_ffw_norm.weight", v.embedding)
    w.vector(p + "ffn_norm.weight", v.embedding)
    w.matrix(p + "ffn_gate.weight", v.feed_forward, v.embedding)
    w.matrix(p + "ffn_up.weight", v.feed_forward, v.embedding)
    w.matrix(p + "ffn_down.weight", v.embedding, v.feed_forward, other)


def make(path, variant, seed=1):
    w = Writer(path, variant, seed)
    add_metadata(w, variant)
    if variant.pre.startswith("spm"):
        tokens, types = add_spm(w.file, variant.pre == "spm-prefix")
    else:
        tokens, types = add_byte_level(w.file, variant.pre, class_merges() if variant.merges == "classes" else byte_level_merges())
    w.file.add_token_list(tokens)
    w.file.add_token_types(types)
    if variant.add_eos:
        w.file.add_add_eos_token(True)
    # Logits of order 2.
    w.matrix("token_embd.weight", len(tokens), variant.embedding, deviation=2.0)
    w.vector("output_norm.weight", variant.embedding)
    if not variant.tied:
        w.matrix("output.weight", len(tokens), variant.embedding, deviation=2.0)
    if variant.scaling == "factors":
        w.file.add_tensor("rope_freqs.weight", np.geomspace(1, 32, variant.head_dim // 2).astype(np.float32))
    for layer in range(variant.layers):
        add_layer(w, variant, layer)
    w.file.write_header_to_file()
    w.file.write_kv_data_to_file()
    w.file.write_tensors_to_file()
    w.file.close()
    return len(tokens)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for variant in variants():
        path = pathlib.Path(arguments.out) / f"{variant.name}.gguf"
        print(path, make(path, variant, arguments.seed), "tokens")


if __name__ == "__main__":
    main()
