"""A small Llama with float32 weights, written as GGUF from a seed. Nothing in it is quantised but the keys and values, so an engine
can be held against the float64 reference at the scale of float32 rounding: what an int8 engine hides shows here."""

import struct

import numpy as np

VOCABULARY, WIDTH, FEED_FORWARD, HEADS, KV_HEADS, HEAD_DIM, LAYERS = 203, 96, 320, 6, 2, 16, 2
EPSILON = 1e-5
U32, F32, STRING = 4, 6, 8
ALIGNMENT = 32


def metadata():
    llama = {"block_count": LAYERS, "context_length": 1024, "embedding_length": WIDTH, "feed_forward_length": FEED_FORWARD,
             "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS, "rope.dimension_count": HEAD_DIM}
    yield "general.architecture", STRING, "llama"
    for key, value in llama.items():
        yield f"llama.{key}", U32, value
    yield "llama.rope.freq_base", F32, 10000.0
    yield "llama.attention.layer_norm_rms_epsilon", F32, EPSILON


def tensors(seed):
    rng = np.random.default_rng(seed)

    def matrix(rows, columns, scale):
        return rng.normal(0, scale, (rows, columns)).astype(np.float32)

    # Small embeddings: their mean square is a few times eps, so that the constant counts.
    yield "token_embd.weight", matrix(VOCABULARY, WIDTH, 5e-3)
    yield "output_norm.weight", rng.uniform(0.5, 1.5, WIDTH).astype(np.float32)
    yield "output.weight", matrix(VOCABULARY, WIDTH, 0.3)
    for layer in range(LAYERS):
        for norm in ("attn_norm", "ffn_norm"):
            yield f"blk.{layer}.{norm}.weight", rng.uniform(0.5, 1.5, WIDTH).astype(np.float32)
        for name, rows, columns in (("attn_q", HEADS * HEAD_DIM, WIDTH), ("attn_k", KV_HEADS * HEAD_DIM, WIDTH), ("attn_v", KV_HEADS * HEAD_DIM, WIDTH),
                                    ("attn_output", WIDTH, HEADS * HEAD_DIM), ("ffn_gate", FEED_FORWARD, WIDTH), ("ffn_up", FEED_FORWARD, WIDTH),
                                    ("ffn_down", WIDTH, FEED_FORWARD)):
            yield f"blk.{layer}.{name}.weight", matrix(rows, columns, 1.5 / np.sqrt(columns))


def string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def write(path, seed=1):
    pairs, all_tensors = list(metadata()), list(tensors(seed))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(all_tensors), len(pairs))
    for key, kind, value in pairs:
        head += string(key) + struct.pack("<I", kind) + (string(value) if kind == STRING else struct.pack("<I" if kind == U32 else "<f", value))
    data = b""
    for name, values in all_tensors:
        shape = values.shape[::-1]
        head += string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(data))
        data += values.tobytes() + b"\0" * (-values.nbytes % ALIGNMENT)
    with open(path, "wb") as file:
        file.write(head + b"\0" * (-len(head) % ALIGNMENT) + data)


def ids(count, seed=2):
    return [int(i) for i in np.random.default_rng(seed).integers(0, VOCABULARY, count)]
