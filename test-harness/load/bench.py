"""Benchmarks with the machine described: `bench.py [engine] [weights] [gateway] [--rounds N] [--model FILE] [--types A,B] [--json FILE]`.
--model is a GGUF file with a chat template that both engines load, instead of the default model; the Vulkan backend, which has fewer
weight types, is then left out. `weights` makes a model of random weights of each of --types and measures both engines on it."""

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

from orch_cluster import MODEL_NAME, ROOT, Cluster, llama_server, mock_pool, native_pool, request, sse_events

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
    lavapipe = pathlib.Path("/usr/share/vulkan/icd.d/lvp_icd.x86_64.json")
    rows = {}
    with contextlib.ExitStack() as stack:
        own = own_pool(model and str(pathlib.Path(model).resolve()), threads=threads, slots=1)
        targets = {"native cpu": stack.enter_context(Cluster([own])).wait_ready().url,
                   "llama.cpp cpu": stack.enter_context(llama_server(model, threads=threads))}
        if lavapipe.exists() and not model:
            os.environ["VK_ICD_FILENAMES"] = str(lavapipe)
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
    sys.path.append(str(ROOT / "test-harness/agreement"))
    import tiny_models  # needs the gguf package, the other benchmarks do not
    print(f"\nweights: random models of {RANDOM_SHAPE['layers']} layers of width {RANDOM_SHAPE['embedding']}, {threads} threads, medians of {rounds} "
          f"rounds\n{'':10}{'prefill tok/s: ours':>20}{'llama.cpp':>11}{'ratio':>8}{'decode tok/s: ours':>20}{'llama.cpp':>11}{'ratio':>8}{'GB/s ours':>11}")
    out = {}
    with tempfile.TemporaryDirectory() as directory:
        for kind in types:
            path = pathlib.Path(directory) / f"{kind}.gguf"
            tiny_models.make(path, tiny_models.Variant(f"random-{kind}", "llama", type=kind, **RANDOM_SHAPE))
            with Cluster([own_pool(str(path), threads=threads, slots=1)]) as cluster:
                ours = measure_random(cluster.wait_ready(120).url, MODEL_NAME, rounds)
            with llama_server(str(path), threads=threads) as url:
                theirs = measure_random(url, MODEL_NAME, rounds)
            size = path.stat().st_size
            path.unlink()
            out[kind] = {"ours": ours, "llama.cpp": theirs, "bytes": size}
            print(f"{kind:10}{ours[0]:20.1f}{theirs[0]:11.1f}{ours[0] / theirs[0]:7.2f}x{ours[1]:20.1f}{theirs[1]:11.1f}{ours[1] / theirs[1]:7.2f}x"
                  f"{ours[1] * size / 1e9:11.1f}", flush=True)
    return out


# --- gateway ---

def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid):
    line = next(l for l in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if l.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def http_bytes(body, host):
    return (f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n").encode() + body


async def read_whole(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(next(l for l in head.lower().split(b"\r\n") if l.startswith(b"content-length:")).split(b":")[1])
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])


async def whole_requests(port, body, connections, each):
    statuses = []

    async def one():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(each):
            writer.write(http_bytes(body, "127.0.0.1"))
            statuses.append(await read_whole(reader))
        writer.close()
    await asyncio.gather(*(one() for _ in range(connections)))
    return statuses


async def streams(port, body, count):
    events = 0

    async def one():
        nonlocal events
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(http_bytes(body, "127.0.0.1"))
        while True:
            data = await reader.read(65536)
            events += data.count(b"data: ")
            if not data or b"[DONE]" in data:
                break
        writer.close()
    await asyncio.gather(*(one() for _ in range(count)))
    return events


def bench_gateway(rounds):
    out = {}
    with Cluster([mock_pool(slots=64)], orchestratord={"queue": {"capacity": 4096, "interactive_capacity": 4096}}) as cluster:
        cluster.wait_ready()
        pid, port = cluster.processes["orchestratord"].pid, int(cluster.url.rsplit(":", 1)[1])
        time.sleep(1)
        out["idle RSS MiB"] = rss_mib(pid)
        content = "x" * 400
        whole = json.dumps({"model": "mock-model", "messages": [{"role": "user", "content": content}], "max_tokens": 1}).encode()
        stream = json.dumps({"model": "mock-model", "messages": [{"role": "user", "content": content}], "max_tokens": 64, "stream": True}).encode()
        asyncio.run(whole_requests(port, whole, 8, 20))
        per_request, per_event = [], []
        for _ in range(rounds):
            before = cpu_seconds(pid)
            statuses = asyncio.run(whole_requests(port, whole, 32, 100))
            assert set(statuses) == {200}, set(statuses)
            per_request.append((cpu_seconds(pid) - before) / len(statuses) * 1e6)
            before = cpu_seconds(pid)
            events = asyncio.run(streams(port, stream, 60))
            per_event.append((cpu_seconds(pid) - before) / events * 1e6)
        out["request body bytes"] = len(whole)
        out["CPU us per request (1 token, not streamed, c=32)"] = statistics.median(per_request)
        out["CPU us per SSE event (60 streams of 64 tokens, request included)"] = statistics.median(per_event)
        out["RSS MiB after load"] = rss_mib(pid)
    print("\ngateway: orchestratord alone, mock engine behind it, gRPC to the worker included")
    for name, value in out.items():
        print(f"{name:70}{value:10.1f}")
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["engine", "gateway"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--types", default="Q4_1,Q4_0,Q8_0,Q4_K", help="weight types of `weights`")
    parser.add_argument("--model", help="GGUF file; the default model otherwise")
    parser.add_argument("--json")
    args = parser.parse_args()
    print(machine())
    results = {"machine": machine(), "model": args.model or MODEL_NAME}
    if "engine" in args.what:
        results["engine"] = bench_engine(args.rounds, args.threads, args.model)
    if "weights" in args.what:
        results["weights"] = bench_weights(args.rounds, args.threads, args.types.split(","))
    if "gateway" in args.what:
        results["gateway"] = bench_gateway(args.rounds)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
