"""The first run on a GPU, part by part: `first_run.py [PART ...]`; all parts without one. The tier `gpu` runs each part as a step.

  facts        what the device is and what dispatches, barriers and memory cost on it (vulkan_facts, workerd --list-devices, vulkaninfo)
  bytes        the worker's self-test on the device, then logits of the default model: equal to the CPU's, byte by byte
  kernels      worker_vulkan_test: every kernel and every model shape against the scalar reference
  determinism  64 random jobs in random company, 8 cells each (determinism_vulkan)
  model        the same on the default model, 6 seeds of 6 cells
  haiku        the haiku gate, served by the device
  speed        steps of models of random weights and real shapes, beside what reading the weights allows
  bench        the default model beside llama.cpp's Vulkan on the same device (bench.py vulkan)

Without a hardware device every part ends with 69 and says NO_DEVICE_OF_THIS_KIND: a software device is no GPU. `--device-kind=cpu`
rehearses the script itself on a software device, in little; it says so in every line that could be quoted, and refuses to write into
a proof bundle (64). Files go to $LLAMA_ORCH_PROOF_DIR/gpu, or to build/gpu.
"""

import argparse
import hashlib
import os
import pathlib
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "test-harness/cluster"), str(ROOT / "test-harness/agreement")]

from orch_cluster import binary_dir, model_file  # noqa: E402

EXIT_USAGE, EXIT_NO_DEVICE = 64, 69
# Shapes of models that people serve, without their vocabularies: 1 and 7 billion weights.
SHAPES = {
    "1b": {"layers": 16, "embedding": 2048, "feed_forward": 8192, "heads": 32, "kv_heads": 8, "head_dim": 64},
    "8b": {"layers": 32, "embedding": 4096, "feed_forward": 14336, "heads": 32, "kv_heads": 8, "head_dim": 128},
    "tiny": {"layers": 2, "embedding": 256, "feed_forward": 512, "heads": 4, "kv_heads": 2, "head_dim": 64},
}
SPEEDS = [("1b", "Q8_0"), ("8b", "Q4_K"), ("8b", "Q8_0")]
BATCHES = (1, 8, 64)


class Refused(Exception):
    """The run cannot go on; the code is the exit status."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Failed(Exception):
    """A part saw what must not be."""


class Run:
    """One device, its kind, and where files go."""

    def __init__(self, rehearsal):
        self.rehearsal = rehearsal
        proof = os.environ.get("LLAMA_ORCH_PROOF_DIR")
        if rehearsal and proof:
            raise Refused(EXIT_USAGE, "REHEARSAL_IS_NO_PROOF: --device-kind=cpu does not write into a proof bundle")
        self.kind = "--device-kind=" + ("cpu" if rehearsal else "gpu")
        self.identity = self.identify()
        self.dir = pathlib.Path(proof) / "gpu" if proof else ROOT / "build" / ("gpu-rehearsal" if rehearsal else "gpu")
        self.dir.mkdir(parents=True, exist_ok=True)
        self.device = self.identity["device selection"]
        self.say(f"{self.identity['device']} ({self.identity['device type']}, {self.identity['driver']}), {self.device}")

    def say(self, text):
        print(("REHEARSAL on the CPU: " if self.rehearsal else "") + text, flush=True)

    def identify(self):
        done = subprocess.run([binary_dir() / "vulkan_facts", self.kind, "--identity"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Refused(done.returncode, done.stderr.strip())
        identity = read_facts(done.stdout)
        if not self.rehearsal and identity["device type"] == "cpu":
            raise Refused(EXIT_NO_DEVICE, f"NO_DEVICE_OF_THIS_KIND: {identity['device']} is a software device")
        return identity

    def command(self, *command, env=None, timeout=3600, **options):
        """Runs it with its output shown; a failure ends the part."""
        command = [str(part) for part in command]
        self.say("$ " + " ".join(command))
        done = subprocess.run(command, env={**os.environ, **(env or {})}, check=False, timeout=timeout, cwd=ROOT, **options)
        if done.returncode != 0:
            raise Failed(f"{pathlib.Path(command[0]).name} ended with {done.returncode}")
        return done

    def keep(self, name, text):
        if self.rehearsal and not text.startswith("REHEARSAL"):
            text = "REHEARSAL\tthis is a software device on the CPU; no figure here is a GPU's\n" + text
        (self.dir / name).write_text(text)


def read_facts(text):
    return dict(line.split("\t", 1) for line in text.splitlines() if "\t" in line)


# --- parts ---

def facts(run):
    little = ["--mebibytes=8"] if run.rehearsal else []
    text = run.command(binary_dir() / "vulkan_facts", run.kind, *little, stdout=subprocess.PIPE, text=True, timeout=600).stdout
    run.keep("facts.txt", text)
    print(text, end="")
    run.keep("devices.txt", run.command(binary_dir() / "workerd", "--list-devices", stdout=subprocess.PIPE, text=True).stdout)
    for tool, package in (("vulkaninfo", "vulkan-tools"), ("nvidia-smi", "the driver's own tools")):
        if shutil.which(tool):
            done = subprocess.run([tool], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120)
            run.keep(f"{tool}.txt", done.stdout)
        else:
            run.say(f"{tool} is not installed ({package}); its page is left out")
    run.say(f"facts of the device: {run.dir}; facts.txt and vulkaninfo.txt are what .docs/investigations/ wants (.docs/testing/gpu.md)")


def logits(run, device, lines):
    """The bytes of all rows of logits that the worker computes on a device."""
    with tempfile.TemporaryDirectory() as folder:
        raw = pathlib.Path(folder) / "logits"
        run.command(binary_dir() / "worker-logits", model_file(), "--device", device, "--ctx", "512", "--raw", raw, input=lines, text=True,
                    stdout=subprocess.DEVNULL)
        return raw.read_bytes()


def first_difference(expected, got):
    """Where two rows of floats part, in words."""
    if len(expected) != len(got):
        return f"{len(expected)} and {len(got)} bytes"
    at = next(i for i in range(0, len(expected), 4) if expected[i:i + 4] != got[i:i + 4])
    return f"float {at // 4}: CPU {struct.unpack_from('<f', expected, at)[0]!r}, device {struct.unpack_from('<f', got, at)[0]!r}"


def bytes_equal(run):
    run.command(binary_dir() / "workerd", "--model", model_file(), "--device", run.device, "--self-test")
    rng = random.Random(1)  # ids of the default model's vocabulary; the longest text crosses the first attention split
    lengths = (1, 7) if run.rehearsal else (1, 7, 48, 300)
    lines = "".join(" ".join(str(rng.randrange(3, 49000)) for _ in range(n)) + "\n" for n in lengths)
    expected, got = logits(run, "cpu", lines), logits(run, run.device, lines)
    if not expected:
        raise Failed("no logits were computed")
    if expected != got:
        raise Failed(f"logits differ: {first_difference(expected, got)}")
    run.say(f"logits of {sum(lengths)} positions equal to the CPU's, {len(got)} bytes, SHA-256 {hashlib.sha256(got).hexdigest()}")


def kernels(run, junit=None):
    # A few names in a rehearsal: the whole takes minutes there and runs in the full tier anyway.
    chosen = ["--gtest_filter=*quantiser*:*norms_of_spans*"] if run.rehearsal else []
    report = [f"--gtest_output=xml:{junit}"] if junit else []
    required = "1" if run.rehearsal else "hardware"
    run.command(binary_dir().parent / "tests/worker_vulkan_test", *chosen, *report, env={"ORCH_REQUIRE_VULKAN": required})


def grid(run, *arguments):
    device = [] if run.rehearsal else ["--hardware"]
    out = run.command(binary_dir() / "determinism_vulkan", *arguments, "--vulkan", *device, stdout=subprocess.PIPE, text=True).stdout
    print(out, end="")
    if f"Vulkan device: {run.identity['device']}" not in out.splitlines():
        raise Failed(f"the cells did not run on {run.identity['device']}")


def determinism(run):
    grid(run, *(("--seeds=1", "--cells=6") if run.rehearsal else ("--seeds=64", "--cells=8")))


def determinism_model(run):
    grid(run, f"--model={model_file()}", *(("--first=14", "--seeds=1", "--cells=2") if run.rehearsal else ("--first=14", "--seeds=6", "--cells=6")))


def haiku(run):
    accelerator = "software-vulkan" if run.rehearsal else "vulkan"
    run.command(sys.executable, "test-harness/haiku/haiku_gate.py", "--device", run.device, "--require-accelerator", accelerator,
                env={"TZ": "Europe/Amsterdam", "REQUIRE_REAL_LLAMA": "1", "PYTHONPATH": str(ROOT / "test-harness/cluster")}, timeout=900)


def read_rate(run):
    """Bytes per second that the device read in the part `facts`; none before it ran."""
    path = run.dir / "facts.txt"
    found = re.search(r"most ([0-9.]+)", read_facts(path.read_text()).get("read through texel buffers, GB/s", "")) if path.exists() else None
    return float(found.group(1)) * 1e9 if found else None


def times_of_steps(run, model, *options):
    """{rows: (milliseconds as one sequence, as a batch)}."""
    out = run.command(binary_dir() / "step_bench_vulkan", f"--model={model}", f"--device={run.device}", f"--rounds={1 if run.rehearsal else 5}",
                      *options, stdout=subprocess.PIPE, text=True).stdout
    return {int(f[1]): (float(f[2]), float(f[3])) for f in (line.split() for line in out.splitlines()) if f[0] == "step"}


def speed(run):
    import tiny_models  # needs the gguf package, the other parts do not
    roof = None if run.rehearsal else read_rate(run)  # a tiny model lies in the cache
    lines = []
    for shape, kind in [("tiny", "Q8_0")] if run.rehearsal else SPEEDS:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model.gguf"
            tiny_models.make(path, tiny_models.Variant(f"random-{shape}-{kind}", "llama", type=kind, context=2048, **SHAPES[shape]))
            size = path.stat().st_size
            steps = times_of_steps(run, path)
            apart, inside = (times_of_steps(run, path, f"--own-inputs={rows}", "--rows=4") for rows in (0, 4))
        for batch in BATCHES:
            rate = 1e3 * batch / steps[batch][1]
            share = f", {rate / batch * size / roof:.0%} of what reading its {size / 1e9:.2f} GB of weights allows" if roof else ""
            lines.append(f"{shape} {kind}\tdecode of {batch}: {rate:.0f} tokens/s{share}")
        lines.append(f"{shape} {kind}\tprefill of 64 rows: {64e3 / steps[64][0]:.0f} tokens/s")
        for rows in (1, 2, 4):
            lines.append(f"{shape} {kind}\tstep of {rows}: {apart[rows][1]:.3f} ms, {inside[rows][1]:.3f} ms with own inputs")
    run.keep("speed.txt", "\n".join(lines) + "\n")
    for line in lines:
        run.say(line.replace("\t", ", "))


def bench(run):
    rounds = "1" if run.rehearsal else "5"
    device = [] if run.rehearsal else ["--device", run.device]
    run.command(sys.executable, "test-harness/load/bench.py", "vulkan", *device, "--rounds", rounds, "--json", run.dir / "bench.json",
                env={"PYTHONPATH": str(ROOT / "test-harness/cluster")})


PARTS = {"facts": facts, "bytes": bytes_equal, "kernels": kernels, "determinism": determinism, "model": determinism_model, "haiku": haiku,
         "speed": speed, "bench": bench}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--device-kind", choices=["gpu", "cpu"], default="gpu")
    parser.add_argument("--junit", help="of the part `kernels`")
    args = parser.parse_args()
    if unknown := [part for part in args.parts if part not in PARTS]:
        parser.error(f"no part is called {', '.join(unknown)}; there are {', '.join(PARTS)}")
    try:
        run = Run(args.device_kind == "cpu")
        for name in args.parts or PARTS:
            run.say(f"--- {name}")
            PARTS[name](run, *([args.junit] if name == "kernels" else []))
            run.say(f"{name}: ok")
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(refusal.code)
    except (Failed, OSError, subprocess.TimeoutExpired) as failure:
        print(f"{name}: FAILED: {failure}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
