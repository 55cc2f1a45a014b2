"""Weights as our loader reads them against the `gguf` package, bit by bit, over blocks of random bits of every type.

usage: dequantisation_agreement.py --tool dequantise_tool [--rows 64] [--seed 1] [--break TYPE]

Scales are finite and large enough that no value falls under 2^-60, where our loader keeps +0. --break flips one bit of one block
of that type after the package has read it: the judgement must then be red.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np

from tiny_models import TYPES

COLS = 512
# Where the f16 scales of a block are.
SCALES = {"Q8_0": [0], "Q6_K": [208], "Q5_K": [0, 2], "Q5_1": [0, 2], "Q5_0": [0], "Q4_K": [0, 2], "Q4_1": [0, 2], "Q4_0": [0]}


def random_bits(rng, kind, rows):
    """Bytes [rows][of a row] of the type; every bit pattern of quants and sub-scales is as likely as any other."""
    kind_id = gguf.GGMLQuantizationType[kind]
    elements, size = gguf.GGML_QUANT_SIZES[kind_id]
    if kind == "F32":
        return rng.normal(size=(rows, COLS)).astype(np.float32).view(np.uint8)
    if kind == "F16":
        return rng.normal(size=(rows, COLS)).astype(np.float16).view(np.uint8)
    raw = rng.integers(0, 256, size=(rows, COLS // elements, size), dtype=np.uint8)
    if kind == "BF16":
        raw[:, :, 1] = raw[:, :, 1] & 0x80 | 0x3F  # exponents around 1
    for at in SCALES.get(kind, []):
        scale = rng.uniform(0.001, 2.0, size=raw.shape[:2]) * rng.choice([-1, 1], size=raw.shape[:2])
        raw[:, :, at:at + 2] = scale.astype(np.float16)[:, :, None].view(np.uint8)
    return raw.reshape(rows, -1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", required=True)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--break", dest="broken", choices=TYPES)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    expected, wrong = {}, []
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "types.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        for kind in TYPES:
            raw = random_bits(rng, kind, arguments.rows)
            kind_id = gguf.GGMLQuantizationType[kind]
            expected[kind] = gguf.quants.dequantize(raw, kind_id).astype(np.float32).reshape(arguments.rows, COLS)
            if kind == arguments.broken:
                raw = raw.copy()
                raw[3, 20] ^= 0x10
            writer.add_tensor(kind, raw.view(np.float32) if kind == "F32" else raw, raw_dtype=kind_id)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        out = subprocess.run([arguments.tool, path, *TYPES], capture_output=True, check=True).stdout
    ours = np.frombuffer(out, np.float32).reshape(len(TYPES), arguments.rows, COLS)
    for kind, mine in zip(TYPES, ours):
        # -0 of the package is +0 here: equal as numbers.
        different = int((mine != expected[kind]).sum())
        print(f"{kind:5} elements {mine.size}, different {different}")
        if different:
            wrong.append(kind)
    print(f"dequantisation: {len(TYPES) - len(wrong)} passed, {len(wrong)} failed{': ' + ', '.join(wrong) if wrong else ''}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
