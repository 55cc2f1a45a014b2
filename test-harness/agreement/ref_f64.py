"""An independent reference of the Llama architecture: weights dequantised from the GGUF file, every step in float64, no quantised
activations. Shares no code with the engine; numpy only. Slow and exact enough to say which of two engines is nearer to the model.
"""

import struct

import numpy as np

VALUE_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
F32, F16, Q4_0, Q4_1, Q8_0 = 0, 1, 2, 3, 8


class Gguf:
    """Metadata and float64 tensors of a GGUF file."""

    def __init__(self, path):
        self.data = np.memmap(path, dtype=np.uint8, mode="r")
        self.at = 0
        magic, _version = self._read("4sI")
        if magic != b"GGUF":
            raise ValueError(f"{path} is no GGUF file")
        tensors, pairs = self._read("QQ")
        self.meta = {}
        for _ in range(pairs):
            key = self._string()
            self.meta[key] = self._value(self._read("I")[0])
        self.info = {}
        for _ in range(tensors):
            name = self._string()
            dims = self._read("Q" * self._read("I")[0])
            kind, offset = self._read("IQ")
            self.info[name] = (dims, kind, offset)
        alignment = self.meta.get("general.alignment", 32)
        self.base = -(-self.at // alignment) * alignment

    def _read(self, form):
        size = struct.calcsize("<" + form)
        out = struct.unpack("<" + form, self.data[self.at:self.at + size].tobytes())
        self.at += size
        return out

    def _string(self):
        size, = self._read("Q")
        out = self.data[self.at:self.at + size].tobytes()
        self.at += size
        return out.decode("utf-8", "replace")

    def _value(self, kind):
        if kind == 8:
            return self._string()
        if kind == 9:
            element, count = self._read("IQ")
            return [self._value(element) for _ in range(count)]
        return self._read(VALUE_FORMATS[kind])[0]

    def tensor(self, name):
        """Float64 [rows][columns], or [n] for a vector."""
        dims, kind, offset = self.info[name]
        count = int(np.prod(dims))
        sizes = {F32: 4, F16: 2, Q4_0: 18 / 32, Q4_1: 20 / 32, Q8_0: 34 / 32}
        raw = self.data[self.base + offset:self.base + offset + int(count * sizes[kind])]
        return self._dequantise(raw, kind).reshape(dims[::-1])

    @staticmethod
    def _dequantise(raw, kind):
        if kind == F32:
            return raw.view(np.float32).astype(np.float64)
        if kind == F16:
            return raw.view(np.float16).astype(np.float64)
        width = {Q4_0: 18, Q4_1: 20, Q8_0: 34}[kind]
        blocks = raw.reshape(-1, width)
        scale = blocks[:, :2].copy().view(np.float16).astype(np.float64)
        if kind == Q8_0:
            return (scale * blocks[:, 2:].copy().view(np.int8)).reshape(-1)
        quants = blocks[:, 2 if kind == Q4_0 else 4:]
        nibbles = np.concatenate([quants & 15, quants >> 4], axis=1).astype(np.float64)
        if kind == Q4_0:
            return (scale * (nibbles - 8)).reshape(-1)
        minimum = blocks[:, 2:4].copy().view(np.float16).astype(np.float64)
        return (scale * nibbles + minimum).reshape(-1)


class Reference:
    """The model in `path`. `cache` is the type in which keys and values are kept, None for float64."""

    def __init__(self, path, cache=None):
        self.cache = cache
        file = Gguf(path)
        meta = lambda key: file.meta[f"llama.{key}"]  # noqa: E731
        self.layers, self.heads, self.kv_heads = meta("block_count"), meta("attention.head_count"), meta("attention.head_count_kv")
        self.eps, self.base = meta("attention.layer_norm_rms_epsilon"), meta("rope.freq_base")
        self.dim = meta("embedding_length") // self.heads
        names = ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"]
        self.weights = [{n: file.tensor(f"blk.{i}.{n}.weight") for n in names} for i in range(self.layers)]
        self.embedding = file.tensor("token_embd.weight")
        self.vocabulary = self.embedding.shape[0]
        self.norm = file.tensor("output_norm.weight")
        self.head = file.tensor("output.weight") if "output.weight" in file.info else self.embedding

    def _rms(self, x, weight):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.eps) * weight

    def _rope(self, x):
        """Turns adjacent pairs of [positions][heads][dim]."""
        positions = np.arange(x.shape[0])[:, None]
        angle = positions * self.base ** (-2.0 * np.arange(self.dim // 2)[None, :] / self.dim)
        cos, sin = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
        even, odd = x[..., 0::2], x[..., 1::2]
        out = np.empty_like(x)
        out[..., 0::2], out[..., 1::2] = even * cos - odd * sin, even * sin + odd * cos
        return out

    def _attention(self, x, w):
        count = x.shape[0]
        q = self._rope((x @ w["attn_q"].T).reshape(count, self.heads, self.dim))
        k = self._rope((x @ w["attn_k"].T).reshape(count, self.kv_heads, self.dim))
        v = (x @ w["attn_v"].T).reshape(count, self.kv_heads, self.dim)
        if self.cache is not None:
            k, v = k.astype(self.cache).astype(np.float64), v.astype(self.cache).astype(np.float64)
        group = self.heads // self.kv_heads
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(self.dim)
        scores[:, np.triu(np.ones((count, count), bool), 1)] = -np.inf
        p = np.exp(scores - scores.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True)
        return np.einsum("hqk,khd->qhd", p, v).reshape(count, -1) @ w["attn_output"].T

    def log_probabilities(self, ids):
        """[positions][vocabulary], natural logarithm."""
        x = self.embedding[np.asarray(ids)]
        for w in self.weights:
            x = x + self._attention(self._rms(x, w["attn_norm"]), w)
            h = self._rms(x, w["ffn_norm"])
            gate = h @ w["ffn_gate"].T
            x = x + (gate / (1 + np.exp(-gate)) * (h @ w["ffn_up"].T)) @ w["ffn_down"].T
        logits = self._rms(x, self.norm) @ self.head.T
        logits -= logits.max(axis=-1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
