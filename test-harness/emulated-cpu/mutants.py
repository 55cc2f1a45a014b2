"""Shows that a wrong kernel is seen on the emulated CPU: `mutants.py BUILD_FOLDER`.

Each mutant is a kernel's source with one text replaced, compiled and linked as `emulated_kernels` is, with its object before the right
one. Run on the emulated CPU the tests must fail; an exit for any other reason is an error. Exit 0 iff every mutant was seen and the
right kernels passed the same tests.
"""

import pathlib
import shlex
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CPU = "corei7_icelake_u"
NARROW, WIDE, SHARED = "worker/cpu/matmul_avx512vnni.cc", "worker/cpu/matmul_wide_avx512vnni.cc", "worker/cpu/avx512vnni_matmul.h"
# name: (source, text, what stands there instead)
MUTANTS = {
    "q8-offset-not-taken-off": (NARROW, "      return 128;", "      return 0;"),
    "q8-weights-not-shifted": (NARROW, "static_cast<char>(0x80)", "static_cast<char>(0)"),
    "q5-fifth-bit-of-another-word": (NARROW, "static_cast<unsigned>(4 - j)", "static_cast<unsigned>(3 - j)"),
    "split-of-another-length": (NARROW, "numerics::kSplitElements / kTileCols", "numerics::kSplitElements / kTileCols / 2"),
    "fused-multiply-add": (NARROW, "acc[n] = _mm512_add_ps(acc[n], t);",
                           "acc[n] = _mm512_fmadd_ps(_mm512_mul_ps(d, _mm512_set1_ps(in.dx[g])), _mm512_cvtepi32_ps(idot[n]), acc[n]);"),
    "q6-scales-without-sign": (WIDE, "_mm512_srai_epi32(half == 0 ? _mm512_slli_epi32(low_pairs",
                               "_mm512_srli_epi32(half == 0 ? _mm512_slli_epi32(low_pairs"),
    "q6-offset-not-taken-off": (WIDE, "-32 * of.sum16[n][first / 16 + 4]", "-31 * of.sum16[n][first / 16 + 4]"),
    "k-minima-of-the-wrong-pair": (WIDE, "of.sum32[n] + 2 * c", "of.sum32[n]"),
    "last-group-stored-whole": (SHARED, "left >= kTileRows ? 0xFFFFU : (1U << left) - 1U", "0xFFFFU"),
}
FILTER = "--gtest_filter=*OC_NUM_1201*/avx512vnni:*OC_NUM_1207*/avx512vnni"


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def commands(build):
    """How ninja compiles each kernel and links the program: argument lists, by source and under 'link'."""
    lines = run(["ninja", "-C", str(build), "-t", "commands", "emulated_kernels"]).stdout.splitlines()
    found = {source: shlex.split(next(l for l in lines if l.endswith(source))) for source in (NARROW, WIDE)}
    # ": && compiler ... && :"
    link = shlex.split(lines[-1])
    found["link"] = link[link.index("&&") + 1:len(link) - 1 - link[::-1].index("&&")]
    return found


def with_output(command, output):
    at = command.index("-o") + 1
    return [*command[:at], str(output), *command[at + 1:]]


def build_mutant(folder, build, how, mutant):
    """The program with one text of one kernel replaced, or None and why not."""
    source, text, instead = mutant
    original = (ROOT / source).read_text()
    if original.count(text) != 1:
        return None, f"{text!r} is {original.count(text)} times in {source}"
    compiled = NARROW if source == SHARED else source
    body = (ROOT / compiled).read_text()
    if source == SHARED:
        header = folder / "shared.h"
        header.write_text(original.replace(text, instead))
        body = body.replace(f'#include "{SHARED}"', f'#include "{header}"')
    else:
        body = body.replace(text, instead)
    changed = folder / "mutant.cc"
    changed.write_text(body)
    made = folder / "mutant.o"
    done = run([*with_output(how[compiled], made)[:-1], "-Wno-error", str(changed)], cwd=build)
    if done.returncode != 0:
        return None, done.stderr[-2000:]
    link = with_output(how["link"], folder / "program")
    first = next(i for i, part in enumerate(link) if part.endswith(".a"))
    done = run([*link[:first], str(made), *link[first:]], cwd=build)
    return (folder / "program", "") if done.returncode == 0 else (None, done.stderr[-2000:])


def judge(build, program):
    """'red', 'green' or what else came of it."""
    done = run([sys.executable, str(HERE / "emulate.py"), "--firmware", str(build / "test-harness/emulated-cpu/firmware.bin"), "--cpu", CPU,
                str(program), FILTER, "--gtest_break_on_failure=0", "--gtest_brief=1"])
    if done.returncode == 0 and "[  PASSED  ] 2 tests" in done.stdout:
        return "green"
    # 134: abort() of the memory allocator, where a kernel wrote past its output.
    return "red" if done.returncode in (1, 134) and "Failed" in done.stdout else f"exit {done.returncode}: {done.stdout[-500:]}"


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    how = commands(build)
    wrong = 0
    start = time.monotonic()
    verdict = judge(build, build / "tests/emulated_kernels")
    print(f"the right kernels: {verdict} ({time.monotonic() - start:.0f} s)", flush=True)
    wrong += verdict != "green"
    for name, mutant in MUTANTS.items():
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="m") as folder:
            program, why = build_mutant(pathlib.Path(folder), build, how, mutant)
            verdict = judge(build, program) if program is not None else why
        print(f"{name}: {verdict} ({time.monotonic() - start:.0f} s)", flush=True)
        wrong += verdict != "red"
    print(f"{len(MUTANTS)} mutants, {wrong} not as expected")
    sys.exit(1 if wrong else 0)


main()
