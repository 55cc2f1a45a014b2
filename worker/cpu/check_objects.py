"""Class X, seen in the machine code: no fused multiply-add in any object of the CPU backend. The objects of an instruction set define
no shared inline function that the linker could pick for a CPU without it, and hold the instructions that they are there for; no
other object holds any of AVX-512.

usage: check_objects.py OBJECT...   (an instruction set's objects bear its name: avx2, avx512vnni)
Prints what it finds; exit 1 when anything is found, 2 when nothing could be checked."""
import re
import subprocess
import sys

FUSED = re.compile(r"\tvf(n?m(add|sub)|maddsub|msubadd)\S*")
WIDE = re.compile(r"%zmm\d|%[xyz]mm(1[6-9]|2\d|3[01])|\{%k\d\}|,%k\d")
SETS = {"avx2": re.compile(r"%ymm\d"), "avx512vnni": re.compile(r"\tvpdpbusd\s.*%zmm\d")}


def disassembled(path):
    return subprocess.run(["objdump", "-d", "--no-show-raw-insn", path], check=True, capture_output=True, text=True).stdout


def weak(path):
    text = subprocess.run(["nm", "-C", "--defined-only", path], check=True, capture_output=True, text=True).stdout
    return [line.split(" ", 2)[2] for line in text.splitlines() if re.match(r"^[0-9a-f]* ?[WV] ", line)]


def problems_of(path, text):
    found = [f"{path}: {name}" for name in sorted({m.group(0).strip() for m in FUSED.finditer(text)})]
    of_set = next((name for name in SETS if name in path.rsplit("/", 1)[-1]), None)
    if of_set is not None:
        found += [f"{path}: weak symbol {name}" for name in weak(path)]
        if not SETS[of_set].search(text):
            found.append(f"{path}: no instruction of {of_set}")
    if of_set != "avx512vnni" and (wide := WIDE.search(text)):
        found.append(f"{path}: AVX-512 register {wide.group(0)}")
    return found


def main(objects):
    texts = {path: disassembled(path) for path in objects}
    lines = sum(text.count("\n") for text in texts.values())
    problems = [problem for path, text in texts.items() for problem in problems_of(path, text)]
    print("\n".join(problems) if problems else f"{len(objects)} objects, {lines} lines: none")
    if lines < 1000:
        return 2
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
