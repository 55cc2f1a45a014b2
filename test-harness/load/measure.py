"""What the benchmarks share: the machine in words, rounds that end in time, requests that are timed, memory of processes."""

import contextlib
import dataclasses
import functools
import hashlib
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

from orch_cluster import ROOT, binary_dir, native_pool, request, sse_events

LAVAPIPE = pathlib.Path("/usr/share/vulkan/icd.d/lvp_icd.x86_64.json")
PROMPT_WORDS = 220  # about as many tokens
DECODE_TOKENS = 64
# 135 million parameters like the default model, but of rows that K-quants can hold: 12 layers, width 1024, 16 heads over 4 of keys.
RANDOM_SHAPE = {"layers": 12, "embedding": 1024, "feed_forward": 2816, "heads": 16, "kv_heads": 4, "head_dim": 64, "context": 2048,
                "chat_template": "{% for message in messages %}{{ message['content'] }}{% endfor %}"}


class NotHere(Exception):
    """This machine cannot measure it; the reason."""


def cores_busy(seconds=1.0):
    """How many cores the machine had at work in that time; what others do when nothing of ours runs."""
    def ticks():
        fields = [int(x) for x in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]  # all; idle and waiting for disks
    total, idle = ticks()
    time.sleep(seconds)
    later, later_idle = ticks()
    return (1 - (later_idle - idle) / max(1, later - total)) * os.cpu_count()


def machine():
    cpu = next((l.split(":", 1)[1].strip() for l in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if l.startswith("model name")), "?")
    flags = next((l for l in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if l.startswith("flags")), "").split()
    isa = [f for f in ("avx2", "f16c", "avx_vnni", "avx512f", "avx512_vnni") if f in flags]
    memory = int(next(l for l in pathlib.Path("/proc/meminfo").read_text().splitlines() if l.startswith("MemTotal")).split()[1]) // 1024
    revision = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    return f"{cpu}, {os.cpu_count()} cores ({' '.join(isa)}), {memory} MiB, Linux {platform.release()}, revision {revision}"


@functools.cache
def rival_instructions():
    """Whether the published llama.cpp was built for AVX-512, by its own word. It is not; one built on the machine would be."""
    command = [sys.executable, "-c", "import xllamacpp; print(xllamacpp.get_system_info())"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return "AVX-512" if "AVX512 = 1" in said else "AVX2" if "AVX2 = 1" in said else "other instructions"


def own_instructions():
    """{name in the tables: `isa` of the pool}: beside what we take by ourselves the instructions of the rival, where they are fewer."""
    flags = pathlib.Path("/proc/cpuinfo").read_text()
    both = "avx512_vnni" in flags and rival_instructions() == "AVX2"
    return {"native cpu": "auto", **({"native avx2": "avx2"} if both else {})}


def rounds_within(rounds, seconds):
    """0 to `rounds`, of which 0 warms up. Ends early, behind one counted round at least, when `seconds` have passed."""
    start = time.monotonic()
    for number in range(rounds + 1):
        if number > 1 and time.monotonic() - start > seconds:
            return
        yield number


# --- the memory's roof ---

@dataclasses.dataclass
class Bandwidth:
    """Bytes per second that all threads read together: the best pass, and how far apart the passes were."""
    best: float
    median: float
    worst: float
    passes: int

    def __str__(self):
        return f"{self.best / 1e9:.1f} GB/s, the best of {self.passes} passes (median {self.median / 1e9:.1f}, worst {self.worst / 1e9:.1f})"

    def better(self, other):
        best = max(self, other, key=lambda b: b.best)
        return Bandwidth(best.best, best.median, min(self.worst, other.worst), self.passes + other.passes)


def step_bench(threads, model=None, rounds=5):
    """(Bandwidth, {rows: (seconds as one sequence, seconds as a batch)}) of `step_bench`."""
    command = [binary_dir() / "step_bench", f"--threads={threads}", f"--rounds={rounds}", *([f"--model={model}"] if model else [])]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True).stdout.splitlines()
    fields = [l.split() for l in lines]
    steps = {int(f[1]): (float(f[2]) / 1e3, float(f[3]) / 1e3) for f in fields if f[0] == "step"}
    best, median, worst, passes = next(f[1:] for f in fields if f[0] == "bandwidth")
    return Bandwidth(float(best), float(median), float(worst), int(passes)), steps


def read_bandwidth(threads):
    return step_bench(threads)[0]


# --- models ---

@contextlib.contextmanager
def random_model(kind):
    """A file of random weights of one type, of a shape like the default model's whose rows K-quants can hold."""
    sys.path.append(str(ROOT / "test-harness/agreement"))
    import tiny_models  # needs the gguf package, the other benchmarks do not
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / f"{kind}.gguf"
        tiny_models.make(path, tiny_models.Variant(f"random-{kind}", "llama", type=kind, **RANDOM_SHAPE))
        yield path


def own_pool(model, **changes):
    """The pool of the default model, or of another file under the same name."""
    pool = native_pool(model and str(pathlib.Path(model).resolve()), **changes)
    if model:
        with open(model, "rb") as file:
            pool["model"]["digest"] = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    return pool


# --- timed requests ---

def measure_chat(url, model, round_number, tokens=DECODE_TOKENS):
    """(prompt tokens, seconds to the first token, completion tokens, seconds from first to last) of one streamed answer."""
    # A fresh first word defeats every prefix cache; the rest is the same work each time.
    words = " ".join(["measure", str(round_number), str(time.monotonic_ns())] + ["harbour stone window"] * (PROMPT_WORDS // 3))
    body = {"model": model, "messages": [{"role": "user", "content": words}], "max_tokens": tokens, "temperature": 0, "stream": True,
            "stream_options": {"include_usage": True}}
    sent, first, last, usage = time.monotonic(), None, None, None
    for _, data, _ in sse_events("POST", url + "/v1/chat/completions", body, 900):
        if data == "[DONE]":
            break
        usage = data.get("usage") or usage
        if any(c.get("delta", {}).get("content") for c in data.get("choices", [])):
            last = time.monotonic()
            first = first or last
    return usage["prompt_tokens"], first - sent, usage["completion_tokens"], last - first


def answer(url, body, timeout=600):
    """The usage of one whole answer."""
    reply = request("POST", url + "/v1/chat/completions", body, timeout=timeout)
    if reply.status != 200:
        raise RuntimeError(f"{reply.status} {reply.body[:300]}")
    return reply.json()["usage"]


# --- processes ---

def child_named(parent, word):
    """The process below `parent` whose command line has `word`."""
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rsplit(")", 1)[1].split()[1]) == parent and word in (stat.parent / "cmdline").read_text():
                return int(stat.parent.name)
    raise RuntimeError(f"no {word} below {parent}")


def memory_mib(pid, field):
    """VmHWM: resident at most, pages of the mapped file included; RssAnon: memory of its own now."""
    line = next(l for l in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if l.startswith(field))
    return int(line.split()[1]) / 1024
