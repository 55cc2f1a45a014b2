"""Class X, seen in the machine code: no fused multiply-add in any object of the CPU backend, and the AVX2 objects define no
shared inline function that the linker could pick for a CPU without AVX2.

usage: check_objects.py OBJECT...   (objects with 'avx2' in their name get the second check too)
Prints what it finds; exit 1 when anything is found, 2 when nothing could be checked."""
import re
import subprocess
import sys

FUSED = re.compile(r"\tvf(n?m(add|sub)|maddsub|msubadd)\S*")


def fused(path):
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path], check=True, capture_output=True, text=True).stdout
    return sorted({m.group(0).strip() for m in FUSED.finditer(text)}), text.count("\n")


def weak(path):
    text = subprocess.run(["nm", "-C", "--defined-only", path], check=True, capture_output=True, text=True).stdout
    return [line.split(" ", 2)[2] for line in text.splitlines() if re.match(r"^[0-9a-f]* ?[WV] ", line)]


def main(objects):
    problems = []
    lines = 0
    for path in objects:
        found, count = fused(path)
        lines += count
        problems += [f"{path}: {name}" for name in found]
        if "avx2" in path.rsplit("/", 1)[-1]:
            problems += [f"{path}: weak symbol {name}" for name in weak(path)]
    print("\n".join(problems) if problems else f"{len(objects)} objects, {lines} lines: none")
    if lines < 1000:
        return 2
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
