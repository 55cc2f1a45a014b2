"""Benchmarks with the machine described: `bench.py [engine] [batch] [busy] [startup] [speculation] [vulkan] [weights] [gateway] [latency]
[--rounds N] [--model FILE] [--batches 1,4] [--types A,B] [--json FILE]`.
--model is a GGUF file with a chat template that both engines load, instead of the default model. `weights` makes a model of random
weights of each of --types and measures both engines on it; so does `batch` where --types is given."""

import argparse
import concurrent.futures
import contextlib
import functools
import hashlib
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

import gateway_bench
from orch_cluster import (MODEL_NAME, ROOT, Cluster, binary_dir, llama_server, model_file, native_pool, request, sse_events,
                          wait_until)

PROMPT_WORDS = 220  # about as many tokens
DECODE_TOKENS = 64
# 135 million parameters like the default model, but of rows that K-quants can hold: 12 layers, width 1024, 16 heads over 4 of keys.
RANDOM_SHAPE = {"layers": 12, "embedding": 1024, "feed_forward": 2816, "heads": 16, "kv_heads": 4, "head_dim": 64, "context": 2048,
                "chat_template": "{% for message in messages %}{{ message['content'] }}{% endfor %}"}


def machine():
    cpu = next((l.split(":", 1)[1].strip() for l in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if l.startswith("model name")), "?")
    flags = next((l for l in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if l.startswith("flags")), "").split()
    isa = [f for f in ("avx2", "f16c", "avx_vnni", "avx512f", "avx512_vnni") if f in flags]
    memory = int(next(l for l in pathlib.Path("/proc/meminfo").read_text().splitlines() if l.startswith("MemTotal")).split()[1]) // 1024
    revision = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    return f"{cpu}, {os.cpu_count()} cores ({' '.join(isa)}), {memory} MiB, Linux {platform.release()}, revision {revision}"


@functools.cache
def read_bandwidth(threads):
    """Bytes/s that so many threads read from memory together, over more than any cache holds."""
    return step_bench(threads)[0]


def step_bench(threads, model=None, rounds=5):
    """(bytes/s read from memory, {rows: (seconds as one sequence, seconds as a batch)}) of `step_bench`."""
    command = [binary_dir() / "step_bench", f"--threads={threads}", f"--rounds={rounds}", *([f"--model={model}"] if model else [])]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True).stdout.splitlines()
    fields = [l.split() for l in lines]
    steps = {int(f[1]): (float(f[2]) / 1e3, float(f[3]) / 1e3) for f in fields if f[0] == "step"}
    return next(float(f[1]) for f in fields if f[0] == "bandwidth"), steps


@contextlib.contextmanager
def random_model(kind):
    """A file of random weights of one type, of a shape like the default model's whose rows K-quants can hold."""
    sys.path.append(str(ROOT / "test-harness/agreement"))
    import tiny_models  # needs the gguf package, the other benchmarks do not
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / f"{kind}.gguf"
        tiny_models.make(path, tiny_models.Variant(f"random-{kind}", "llama", type=kind, **RANDOM_SHAPE))
        yield path


# --- engine ---

def measure_chat(url, model, round_number):
    """(prompt tokens, seconds to the first token, completion tokens, seconds from first to last) of one streamed answer."""
    # A fresh first word defeats every prefix cache; the rest is the same work each time.
    words = " ".join(["measure", str(round_number), str(time.monotonic_ns())] + ["harbour stone window"] * (PROMPT_WORDS // 3))
    body = {"model": model, "messages": [{"role": "user", "content": words}], "max_tokens": DECODE_TOKENS, "temperature": 0, "stream": True,
            "stream_options": {"include_usage": True}}
    sent, first, last, usage = time.monotonic(), None, None, None
    for _, data, _ in sse_events("POST", url + "/v1/chat/completions", body, 600):
        if data == "[DONE]":
            break
        usage = data.get("usage") or usage
        if any(c.get("delta", {}).get("content") for c in data.get("choices", [])):
            last = time.monotonic()
            first = first or last
    return usage["prompt_tokens"], first - sent, usage["completion_tokens"], last - first


def own_pool(model, **changes):
    """The pool of the default model, or of another file under the same name."""
    pool = native_pool(model, **changes)
    if model:
        with open(model, "rb") as file:
            pool["model"]["digest"] = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    return pool


def bench_engine(rounds, threads, model):
    rows = {}
    with contextlib.ExitStack() as stack:
        own = own_pool(model and str(pathlib.Path(model).resolve()), threads=threads, slots=1)
        targets = {"native cpu": stack.enter_context(Cluster([own])).wait_ready().url,
                   "llama.cpp cpu": stack.enter_context(llama_server(model, threads=threads))}
        if LAVAPIPE.exists() and not model:
            os.environ["VK_ICD_FILENAMES"] = str(LAVAPIPE)
            targets["native lavapipe"] = stack.enter_context(Cluster([native_pool(device="vulkan:0", slots=1, ctx=1024)])).wait_ready(120).url
        for number in range(rounds + 1):
            for name, url in targets.items():
                if name == "native lavapipe" and number > 1:
                    continue  # one counted round: it is a correctness device
                prompt, ttft, tokens, decoding = measure_chat(url, MODEL_NAME, number)
                if number > 0:  # round 0 warms up
                    rows.setdefault(name, []).append((prompt / ttft, ttft, (tokens - 1) / decoding))
    print(f"\nengine: {PROMPT_WORDS}-word prompt, {DECODE_TOKENS} tokens, {threads} threads, {rounds} interleaved rounds, medians")
    print(f"{'':18}{'prefill tok/s':>15}{'first token ms':>16}{'decode tok/s':>14}")
    medians = {name: [statistics.median(column) for column in zip(*values)] for name, values in rows.items()}
    for name, (prefill, ttft, decode) in medians.items():
        print(f"{name:18}{prefill:15.1f}{ttft * 1000:16.0f}{decode:14.1f}")
    if "llama.cpp cpu" in medians:
        ours, theirs = medians["native cpu"], medians["llama.cpp cpu"]
        print(f"native / llama.cpp: prefill {ours[0] / theirs[0]:.2f}x, decode {ours[2] / theirs[2]:.2f}x")
    return medians


# --- vulkan ---

def bench_vulkan(rounds, model):
    """The native worker on a software Vulkan device beside llama.cpp's Vulkan backend on the same one. Ours is asked over HTTP,
    llama.cpp in its own process; it compiles for minutes and decodes few tokens a second there."""
    os.environ["VK_ICD_FILENAMES"] = str(LAVAPIPE)
    path = model or model_file()
    with Cluster([native_pool(model and str(pathlib.Path(model).resolve()), device="vulkan:0", slots=1, ctx=1024)]) as cluster:
        url = cluster.wait_ready(120).url
        measured = [measure_chat(url, MODEL_NAME, number) for number in range(rounds + 1)][1:]  # round 0 warms up
    ours = [statistics.median(column) for column in zip(*((prompt / ttft, (tokens - 1) / decoding) for prompt, ttft, tokens, decoding in measured))]
    out = subprocess.run([sys.executable, str(pathlib.Path(__file__).with_name("llama_vulkan.py")), path, str(measured[0][0]), "16"],
                         capture_output=True, text=True, check=True, timeout=1500)
    theirs = json.loads(out.stdout)
    print(f"\nvulkan: software device, prompt of {measured[0][0]} tokens; llama.cpp ({theirs['version']}) was ready after {theirs['ready_s']} s")
    print(f"{'':18}{'prefill tok/s':>15}{'decode tok/s':>14}")
    print(f"{'native':18}{ours[0]:15.1f}{ours[1]:14.1f}\n{'llama.cpp':18}{theirs['prefill']:15.1f}{theirs['decode']:14.1f}")
    print(f"native / llama.cpp: prefill {ours[0] / theirs['prefill']:.2f}x, decode {ours[1] / theirs['decode']:.2f}x")
    return {"native": ours, "llama.cpp": theirs}


# --- weights ---

def measure_random(url, model, rounds):
    """(prefill tokens/s, decode tokens/s) medians. The text of random weights is noise whose characters are often held back, so
    whole replies of one token and of many are timed instead of events."""
    prefill, decode = [], []
    for number in range(rounds + 1):
        seconds, tokens = [], []
        for length in (1, 1 + DECODE_TOKENS):
            words = " ".join([f"{time.monotonic_ns()} measure"] + ["the name of a class"] * (PROMPT_WORDS // 5))
            body = {"model": model, "messages": [{"role": "user", "content": words}], "max_tokens": length, "temperature": 0}
            start = time.monotonic()
            reply = request("POST", url + "/v1/chat/completions", body, timeout=600)
            seconds.append(time.monotonic() - start)
            if reply.status != 200:
                raise RuntimeError(f"{reply.status} {reply.body[:300]}")
            usage = reply.json()["usage"]
            tokens.append(usage["completion_tokens"])
            prompt = usage["prompt_tokens"]
        if number > 0 and tokens[1] > DECODE_TOKENS // 2:  # round 0 warms up; a random model may end a text early
            prefill.append(prompt / seconds[0])
            decode.append((tokens[1] - tokens[0]) / (seconds[1] - seconds[0]))
    return statistics.median(prefill), statistics.median(decode), prompt


def bench_weights(rounds, threads, types):
    bandwidth, out = read_bandwidth(threads), {}
    print(f"\nweights: random models of {RANDOM_SHAPE['layers']} layers of width {RANDOM_SHAPE['embedding']}, {threads} threads, medians of {rounds} "
          f"rounds; read bandwidth {bandwidth / 1e9:.1f} GB/s\n{'':10}{'prefill tok/s: ours':>20}{'llama.cpp':>11}{'ratio':>8}{'decode tok/s: ours':>20}"
          f"{'llama.cpp':>11}{'ratio':>8}{'GB/s ours':>11}{'of bandwidth':>14}")
    for kind in types:
        with random_model(kind) as path:
            with Cluster([own_pool(str(path), threads=threads, slots=1)]) as cluster:
                ours = measure_random(cluster.wait_ready(120).url, MODEL_NAME, rounds)
            with llama_server(str(path), threads=threads) as url:
                theirs = measure_random(url, MODEL_NAME, rounds)
            size = path.stat().st_size
        out[kind] = {"ours": ours, "llama.cpp": theirs, "bytes": size, "bandwidth": bandwidth}
        print(f"{kind:10}{ours[0]:20.1f}{theirs[0]:11.1f}{ours[0] / theirs[0]:7.2f}x{ours[1]:20.1f}{theirs[1]:11.1f}{ours[1] / theirs[1]:7.2f}x"
              f"{ours[1] * size / 1e9:11.1f}{ours[1] * size / bandwidth:14.0%}", flush=True)
    return out


# --- batch ---

BATCH_TOKENS = 48
NEVER_DRAWN = {"0": -100, "2": -100}  # what ends a text, in the default model and in random ones: so every answer has the same length


def wave(url, model, batch, tokens, number):
    """Seconds for `batch` answers of `tokens` tokens at once."""
    def one(index):
        body = {"model": model, "messages": [{"role": "user", "content": f"{time.monotonic_ns()} {number} {index}: tell me about the sea"}],
                "max_tokens": tokens, "temperature": 1.0, "seed": index, "logit_bias": NEVER_DRAWN}
        reply = request("POST", url + "/v1/chat/completions", body, timeout=900)
        if reply.status != 200 or reply.json()["usage"]["completion_tokens"] != tokens:
            raise RuntimeError(f"{reply.status} {reply.body[:300]}")
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(batch) as pool:
        list(pool.map(one, range(batch)))
    return time.monotonic() - start


def batch_rate(url, model, batch, rounds):
    """Tokens/s of decoding: waves of long answers less waves of one token."""
    seconds = []
    for number in range(rounds + 1):
        short = wave(url, model, batch, 1, number)
        long = wave(url, model, batch, 1 + BATCH_TOKENS, number)
        if number > 0:  # round 0 warms up
            seconds.append(long - short)
    return batch * BATCH_TOKENS / statistics.median(seconds)


def child_named(parent, word):
    """The process below `parent` whose command line has `word`."""
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rsplit(")", 1)[1].split()[1]) == parent and word in (stat.parent / "cmdline").read_text():
                return int(stat.parent.name)
    raise RuntimeError(f"no {word} below {parent}")


def high_water_mib(pid):
    line = next(l for l in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if l.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def bench_batch(rounds, threads, model, batches, types):
    """Of the default model or --model, or of a random model of each of `types`."""
    if not types:
        return batch_of(rounds, threads, model, batches, MODEL_NAME)
    out = {}
    for kind in types:
        with random_model(kind) as path:
            out[kind] = batch_of(rounds, threads, str(path), batches, f"random weights, {kind}")
    return out


def batch_of(rounds, threads, model, batches, title):
    slots, out = max(batches), {}
    size = pathlib.Path(model or model_file()).stat().st_size
    bandwidth = read_bandwidth(threads)
    with contextlib.ExitStack() as stack:
        own = own_pool(model and str(pathlib.Path(model).resolve()), threads=threads, slots=slots, ctx=256)
        cluster = stack.enter_context(Cluster([own])).wait_ready(120)
        theirs = stack.enter_context(llama_server(model, threads=threads, slots=slots, ctx=256))
        wait_until(lambda: request("GET", theirs + "/health").status == 200, 120, "llama.cpp is healthy")
        print(f"\nbatch, {title}: {BATCH_TOKENS} tokens of each answer at temperature 1, {threads} threads, {slots} slots of 256 tokens, medians of "
              f"{rounds} rounds\n{'batch':>6}{'native tok/s':>14}{'llama.cpp':>11}{'ratio':>8}{'memory roof':>13}{'native / roof':>15}{'llama.cpp / roof':>18}")
        for batch in batches:
            rates = [batch_rate(url, MODEL_NAME, batch, rounds) for url in (cluster.url, theirs)]
            roof = batch * bandwidth / size  # the weights are read once a step; keys and values are small beside them
            out[batch] = {"native": rates[0], "llama.cpp": rates[1], "roof": roof}
            print(f"{batch:6}{rates[0]:14.1f}{rates[1]:11.1f}{rates[0] / rates[1]:7.2f}x{roof:13.0f}{rates[0] / roof:14.0%}{rates[1] / roof:17.0%}",
                  flush=True)
        pids = {"native": child_named(cluster.processes["pool-managerd"].pid, "workerd"), "llama.cpp": child_named(os.getpid(), "llama_server")}
        memory = {name: high_water_mib(pid) for name, pid in pids.items()}
    print(f"read bandwidth of {threads} threads {bandwidth / 1e9:.1f} GB/s, weights {size / 1e6:.0f} MB; resident memory at most: "
          + ", ".join(f"{name} {mib:.0f} MiB" for name, mib in memory.items()))
    return {"rates": out, "bandwidth": bandwidth, "high_water_mib": memory}


# --- startup ---

LAVAPIPE = pathlib.Path("/usr/share/vulkan/icd.d/lvp_icd.x86_64.json")


def time_worker(device, threads, model):
    """Seconds until `workerd` has loaded the model, compiled what it must and passed its self-test."""
    command = [binary_dir() / "workerd", "--model", model or model_file(), "--model-name", MODEL_NAME, "--device", device, "--threads", str(threads),
               "--ctx", "1024", "--slots", "1", "--self-test"]
    environment = {**os.environ, "VK_ICD_FILENAMES": str(LAVAPIPE)}
    start = time.monotonic()
    subprocess.run(command, capture_output=True, timeout=300, check=True, env=environment)
    return time.monotonic() - start


def time_llama(threads, model):
    """Seconds until llama.cpp's server is healthy, its Python included."""
    start = time.monotonic()
    with llama_server(model, threads=threads) as url:
        wait_until(lambda: request("GET", url + "/health").status == 200, 120, "llama.cpp is healthy")
        return time.monotonic() - start


def time_cluster(threads, model):
    start = time.monotonic()
    with Cluster([own_pool(model and str(pathlib.Path(model).resolve()), threads=threads)]) as cluster:
        cluster.wait_ready(120)
        return time.monotonic() - start


def bench_startup(rounds, threads, model):
    ways = {"workerd, cpu": lambda: time_worker("cpu", threads, model), "gateway, manager and worker, cpu": lambda: time_cluster(threads, model),
            "llama.cpp's server": lambda: time_llama(threads, model)}
    if LAVAPIPE.exists():
        ways["workerd, lavapipe"] = lambda: time_worker("vulkan:0", threads, model)
    seconds = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(way())
    print(f"\nstartup: seconds until ready, {threads} threads, medians of {rounds} interleaved rounds; the first of each in brackets")
    for name, times in seconds.items():
        print(f"{name:36}{statistics.median(times):8.2f}  ({times[0]:.2f})")
    return {name: statistics.median(times) for name, times in seconds.items()}


# --- busy ---

@contextlib.contextmanager
def spinning(count):
    """So many processes that do nothing but run."""
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def decode_rates(targets, rounds):
    rates = {name: [] for name in targets}
    for number in range(rounds + 1):
        for name, url in targets.items():
            _, _, tokens, seconds = measure_chat(url, MODEL_NAME, number)
            if number > 0:  # round 0 warms up
                rates[name].append((tokens - 1) / seconds)
    return {name: statistics.median(values) for name, values in rates.items()}


def bench_busy(rounds, threads, model):
    """Decoding beside one spinning process a core. Workers on the CPU run at niceness 5; llama.cpp is measured there too."""
    with contextlib.ExitStack() as stack:
        own = own_pool(model and str(pathlib.Path(model).resolve()), threads=threads, slots=1)
        targets = {"native": stack.enter_context(Cluster([own])).wait_ready(120).url,
                   "llama.cpp": stack.enter_context(llama_server(model, threads=threads)),
                   "llama.cpp, nice 5": stack.enter_context(llama_server(model, threads=threads, niceness=5))}
        alone = decode_rates(targets, rounds)
        with spinning(os.cpu_count()):
            busy = decode_rates(targets, rounds)
    print(f"\nbusy: decode tokens/s, {threads} threads, alone and beside {os.cpu_count()} spinning processes, medians of {rounds} interleaved rounds")
    print(f"{'':20}{'alone':>10}{'busy':>10}{'kept':>8}{'native / this, busy':>22}")
    for name in targets:
        print(f"{name:20}{alone[name]:10.1f}{busy[name]:10.1f}{busy[name] / alone[name]:8.0%}{busy['native'] / busy[name]:21.2f}x")
    return {"alone": alone, "busy": busy}


# --- speculation ---

PASSAGE = ("The lighthouse at the end of the harbour was built in the spring of 1847 by two brothers who had never seen the sea before that "
           "year. They carried every stone by hand from the quarry behind the village, and when the tower stood as high as the church they lit a "
           "fire on top of it. Ships that had passed the coast for a century without stopping began to call there for water, bread and news.")
SPECULATED = {"a passage is copied": f"Text:\n{PASSAGE}\n\nThe same text, copied word for word:\n",
              "a passage is edited": f"Text:\n{PASSAGE}\n\nThe same text, but the lighthouse is called a tower:\n",
              "a text that goes on": "The history of the lighthouse begins in the second century, when the harbour of"}


def bench_speculation(rounds, threads, model):
    """`workerd --generate` with and without drafts: the same text, and what it gains or loses; and what the rows of a step cost."""
    def run(prompt, speculation):
        command = [binary_dir() / "workerd", "--model", model or model_file(), "--device", "cpu", "--threads", str(threads), "--ctx", "1024",
                   "--generate", prompt, "--raw", "--max-tokens", "100", "--temperature", "0", "--speculation", speculation]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        return done.stdout, float(re.search(r"\(([0-9.]+) tokens/s\)", done.stderr).group(1))
    out = {}
    print(f"\nspeculation: decode tokens/s at temperature 0, {threads} threads, medians of {rounds} interleaved rounds")
    for name, prompt in SPECULATED.items():
        rates = {"off": [], "on": []}
        texts = set()
        for _ in range(rounds):
            for way, seen in rates.items():
                text, rate = run(prompt, way)
                texts.add(text)
                seen.append(rate)
        if len(texts) != 1:
            raise RuntimeError(f"{name}: texts differ")
        off, on = statistics.median(rates["off"]), statistics.median(rates["on"])
        out[name] = {"off": off, "on": on}
        print(f"{name:28} off {off:7.1f}  on {on:7.1f}  {on / off:.2f}x, the same text", flush=True)
    out["steps"] = steps = step_bench(threads, model or model_file(), rounds)[1]
    one, alone = steps[1]
    print(f"{'rows of a step':>16}{'one sequence ms':>17}{'of one row':>12}{'a batch ms':>12}{'of one row':>12}")
    for rows, (sequence, batch) in steps.items():
        print(f"{rows:16}{sequence * 1e3:17.2f}{sequence / one:11.2f}x{batch * 1e3:12.2f}{batch / alone:11.2f}x")
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["engine", "gateway"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--batches", default="1,4,16,64", help="of `batch`")
    parser.add_argument("--types", help="weight types of `weights` (all four measured ones without) and of `batch`")
    parser.add_argument("--model", help="GGUF file; the default model otherwise")
    parser.add_argument("--json")
    args = parser.parse_args()
    print(machine())
    results = {"machine": machine(), "model": args.model or MODEL_NAME}
    if "engine" in args.what:
        results["engine"] = bench_engine(args.rounds, args.threads, args.model)
    if "batch" in args.what:
        results["batch"] = bench_batch(args.rounds, args.threads, args.model, [int(b) for b in args.batches.split(",")],
                                       args.types.split(",") if args.types else [])
    if "busy" in args.what:
        results["busy"] = bench_busy(args.rounds, args.threads, args.model)
    if "startup" in args.what:
        results["startup"] = bench_startup(args.rounds, args.threads, args.model)
    if "speculation" in args.what:
        results["speculation"] = bench_speculation(args.rounds, args.threads, args.model)
    if "weights" in args.what:
        results["weights"] = bench_weights(args.rounds, args.threads, (args.types or "Q4_1,Q4_0,Q8_0,Q4_K").split(","))
    if "gateway" in args.what:
        results["gateway"] = gateway_bench.bench_gateway(args.rounds)
    if "vulkan" in args.what:
        results["vulkan"] = bench_vulkan(args.rounds, args.model)
    if "latency" in args.what:
        results["latency"] = gateway_bench.bench_latency(args.rounds)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
