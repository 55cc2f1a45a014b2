"""Benchmarks with the machine described: `bench.py all`, or `bench.py SECTION ...` of

  engine       prefill, first token and decode of the native worker, of llama.cpp's server and of the software Vulkan device
  weights      the same for random models of Q4_1, Q4_0, Q8_0 and Q4_K (--types), and the share of the read bandwidth
  batch        1, 4, 16 and 64 answers at once (--batches), prefill and decode beside the memory's roof: the default model, which is Q4_1, and
               random models of Q8_0, Q4_0 and Q4_K, or of --types alone
  busy         decoding beside one spinning process a core
  memory       resident memory of each process for the same file, slots and context
  startup      seconds until ready
  score        32 items behind one query, shared and one by one
  speculation  drafts from the text itself, and what the rows of a step cost
  masks        what structured output costs
  vulkan       the worker on a Vulkan device beside llama.cpp's Vulkan backend (--device; the software device without)
  gateway      processor time of orchestratord per request and event, memory idle
  latency      from the worker's token to the client's byte at 1, 100 and 1,000 streams
  control      fairness, goodput, Retry-After, calibration, ns per decision, seeds per second

[--rounds N] [--threads N] [--model FILE] [--seconds N: each section's, instead of its own] [--json FILE]. --model is a GGUF file with a chat
template that both engines load, instead of the default model. `all` runs each section in a process of its own, ends those that take longer
than their time, and prints every figure as one table, with the cores that others kept busy beside it. Exit 1: a section failed or was ended.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import answers_bench
import control_bench
import engine_bench
import gateway_bench
import vulkan_bench
from measure import NotHere, cores_busy, machine
from orch_cluster import MODEL_NAME

# Seconds in which a section ends by itself, counting fewer rounds. `all` ends it after that and the time of starting and ending.
SECONDS = {"engine": 180, "weights": 480, "batch": 900, "busy": 180, "memory": 60, "startup": 60, "score": 120, "speculation": 240, "masks": 60,
           "vulkan": 600, "gateway": 120, "latency": 240, "control": 420}
MARGIN_SECONDS = 600
ALL_ROUNDS = 3
QUIET_CORES = 0.2  # above it other work was on the machine before or behind a section


def sections(args):
    types = args.types.split(",") if args.types else []
    seconds = {name: args.seconds or own for name, own in SECONDS.items()}
    rounds, threads, model = args.rounds, args.threads, args.model
    return {
        "engine": lambda: engine_bench.bench_engine(rounds, threads, model, seconds["engine"]),
        "weights": lambda: engine_bench.bench_weights(rounds, threads, types or ["Q4_1", "Q4_0", "Q8_0", "Q4_K"], seconds["weights"]),
        "batch": lambda: engine_bench.bench_batch(rounds, threads, model, [int(b) for b in args.batches.split(",")], types, seconds["batch"]),
        "busy": lambda: engine_bench.bench_busy(rounds, threads, model, seconds["busy"]),
        "memory": lambda: engine_bench.bench_memory(threads, model),
        "startup": lambda: engine_bench.bench_startup(rounds, threads, model, seconds["startup"]),
        "score": lambda: answers_bench.bench_score(rounds, threads, model),
        "speculation": lambda: answers_bench.bench_speculation(rounds, threads, model, seconds["speculation"]),
        "masks": lambda: answers_bench.bench_masks(model),
        "vulkan": lambda: vulkan_bench.bench_vulkan(rounds, model, args.device, seconds["vulkan"]),
        "gateway": lambda: gateway_bench.bench_gateway(rounds),
        "latency": lambda: gateway_bench.bench_latency(min(rounds, 3)),
        "control": lambda: control_bench.bench_control(threads),
    }


def measured(section):
    """Its result, with the cores that others kept busy before or behind it."""
    others = cores_busy()
    try:
        result = section()
    except NotHere as reason:
        print(f"\nnot measured: {reason}", flush=True)
        result = {"missing": str(reason), "figures": []}
    return {**result, "others": max(others, cores_busy())}


def end_group(process):
    """Everything that a section started: its daemons end with their managers, which are in its group."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
            if how == signal.SIGKILL:
                return


def run_apart(name, arguments, limit):
    """A section's result, from a process of its own."""
    with tempfile.TemporaryDirectory(prefix="orch") as folder:
        report = pathlib.Path(folder, "result.json")
        others = cores_busy()
        process = subprocess.Popen([sys.executable, __file__, name, *arguments, "--json", str(report)], start_new_session=True,
                                   env={**os.environ, "TMPDIR": folder})
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end_group(process)
        if code == 0:
            return json.loads(report.read_text())[name]
        why = f"ended with {code}" if code is not None else f"ended after {limit} s"
        print(f"\n{name}: FAILED: {why}", flush=True)
        return {"failed": why, "others": others, "figures": []}


def run_all(args):
    """Every section, each within its time."""
    arguments = ["--rounds", str(args.rounds), "--threads", str(args.threads), "--batches", args.batches]
    for flag, value in (("--model", args.model), ("--types", args.types), ("--device", args.device), ("--seconds", args.seconds)):
        arguments += [flag, str(value)] if value else []
    chosen = args.only.split(",") if args.only else list(SECONDS)
    return {name: run_apart(name, arguments, (args.seconds or SECONDS[name]) + MARGIN_SECONDS) for name in chosen}


def table(results):
    print(f"\nall figures, {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, {machine()}")
    print("others: cores that other work kept busy in the second before or behind the section; * such figures say little of the engine\n")
    print(f"{'section':12}{'others':>7}  {'figure':58} {'target':>10}  value")
    for name, result in results.items():
        others = f"{result['others']:.1f}{'*' if result['others'] > QUIET_CORES else ' '}"
        for figure in result["figures"]:
            print(f"{name:12}{others:>7}  {figure['what']:58} {figure.get('target') or '':>10}  {figure['value']}")
        for word in ("missing", "failed"):
            if word in result:
                print(f"{name:12}{others:>7}  {'not measured':58} {'':>10}  {result[word]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["engine", "gateway"])
    parser.add_argument("--only", help="of `all`: these sections, separated by commas")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--batches", default="1,4,16,64", help="of `batch`")
    parser.add_argument("--types", help="weight types of `weights` (all four measured ones without) and of `batch`")
    parser.add_argument("--model", help="GGUF file; the default model otherwise")
    parser.add_argument("--device", help="of `vulkan`, as workerd takes it")
    parser.add_argument("--seconds", type=int, help="in which each section ends by itself")
    parser.add_argument("--json")
    args = parser.parse_args()
    everything = args.what == ["all"]
    args.rounds = args.rounds or (ALL_ROUNDS if everything else 5)
    if unknown := [name for name in args.what if name not in SECONDS and not everything]:
        parser.error(f"no section is called {', '.join(unknown)}; there are all, {', '.join(SECONDS)}")
    print(machine(), flush=True)
    known = sections(args)
    results = run_all(args) if everything else {name: measured(known[name]) for name in args.what}
    if everything:
        table(results)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"machine": machine(), "model": args.model or MODEL_NAME, **results}, indent=1) + "\n")
    sys.exit(1 if any("failed" in result for result in results.values()) else 0)


if __name__ == "__main__":
    main()
