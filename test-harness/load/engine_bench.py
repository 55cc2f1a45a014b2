"""The native engine beside llama.cpp's server on the same file and threads: `bench.py engine batch weights busy startup memory`."""

import concurrent.futures
import contextlib
import os
import pathlib
import statistics
import subprocess
import sys
import time

from measure import (DECODE_TOKENS, LAVAPIPE, PROMPT_WORDS, RANDOM_SHAPE, answer, child_named, cores_busy, measure_chat, memory_mib,
                     own_instructions, own_pool, random_model, read_bandwidth, rival_instructions, rounds_within)
from orch_cluster import MODEL_NAME, Cluster, binary_dir, llama_server, model_file, native_pool, request, wait_until


def ratio(ours, theirs, target=None):
    return {"value": f"{ours / theirs:.2f}x", **({"target": target} if target else {})}


# --- engine ---

def bench_engine(rounds, threads, model, seconds):
    rows = {}
    with contextlib.ExitStack() as stack:
        targets = {name: stack.enter_context(Cluster([own_pool(model, threads=threads, slots=1, isa=isa)])).wait_ready().url
                   for name, isa in own_instructions().items()}
        targets["llama.cpp cpu"] = stack.enter_context(llama_server(model, threads=threads))
        if LAVAPIPE.exists() and not model:
            os.environ["VK_ICD_FILENAMES"] = str(LAVAPIPE)
            targets["native lavapipe"] = stack.enter_context(Cluster([native_pool(device="vulkan:0", slots=1, ctx=1024)])).wait_ready(120).url
        for number in rounds_within(rounds, seconds):
            for name, url in targets.items():
                if name == "native lavapipe" and number > 1:
                    continue  # one counted round: it is a correctness device
                prompt, ttft, tokens, decoding = measure_chat(url, MODEL_NAME, number)
                if number > 0:
                    rows.setdefault(name, []).append((prompt / ttft, ttft, (tokens - 1) / decoding))
    counted = len(rows["native cpu"])
    print(f"\nengine: {PROMPT_WORDS}-word prompt, {DECODE_TOKENS} tokens, {threads} threads, {counted} interleaved rounds, medians")
    print(f"{'':18}{'prefill tok/s':>15}{'first token ms':>16}{'decode tok/s':>14}")
    medians = {name: [statistics.median(column) for column in zip(*values)] for name, values in rows.items()}
    for name, (prefill, ttft, decode) in medians.items():
        print(f"{name:18}{prefill:15.1f}{ttft * 1000:16.0f}{decode:14.1f}")
    theirs = medians["llama.cpp cpu"]
    figures = [{"what": f"{name}: prefill, first token, decode", "value": f"{m[0]:.0f} tok/s, {m[1] * 1000:.0f} ms, {m[2]:.1f} tok/s"}
               for name, m in medians.items()]
    targets = ("3x", "1.5x") if not model else (None, None)  # DESIGN 8 says them of Q4_1, the default model's type
    for name in own_instructions():
        ours = medians[name]
        print(f"{name} / llama.cpp ({rival_instructions()}): prefill {ours[0] / theirs[0]:.2f}x, decode {ours[2] / theirs[2]:.2f}x")
        figures += [{"what": f"{name}: prefill / llama.cpp ({rival_instructions()})", **ratio(ours[0], theirs[0], targets[0])},
                    {"what": f"{name}: decode / llama.cpp ({rival_instructions()})", **ratio(ours[2], theirs[2], targets[1])}]
    return {"medians": medians, "rounds": counted, "figures": figures}


# --- weights ---

def measure_random(url, rates, number):
    """One round of one engine. The text of random weights is noise whose characters are often held back, so whole replies of one
    token and of many are timed instead of events."""
    seconds, tokens = [], []
    for length in (1, 1 + DECODE_TOKENS):
        words = " ".join([f"{time.monotonic_ns()} measure"] + ["the name of a class"] * (PROMPT_WORDS // 5))
        start = time.monotonic()
        usage = answer(url, {"model": MODEL_NAME, "messages": [{"role": "user", "content": words}], "max_tokens": length, "temperature": 0,
                             "logit_bias": NEVER_DRAWN})
        seconds.append(time.monotonic() - start)
        tokens.append(usage["completion_tokens"])
    if number > 0 and tokens[1] > DECODE_TOKENS // 2:  # a random model may end a text early
        rates.append((usage["prompt_tokens"] / seconds[0], (tokens[1] - tokens[0]) / (seconds[1] - seconds[0])))


def bench_weights(rounds, threads, types, seconds):
    bandwidth, out, figures = read_bandwidth(threads), {}, []
    print(f"\nweights: random models of {RANDOM_SHAPE['layers']} layers of width {RANDOM_SHAPE['embedding']}, {threads} threads, medians of up to "
          f"{rounds} interleaved rounds; read bandwidth {bandwidth}\n{'':10}{'prefill tok/s: ours':>20}{'llama.cpp':>11}{'ratio':>8}"
          f"{'decode tok/s: ours':>20}{'llama.cpp':>11}{'ratio':>8}{'GB/s ours':>11}{'of bandwidth':>14}")
    for kind in types:
        with random_model(kind) as path, contextlib.ExitStack() as stack:
            urls = {name: stack.enter_context(Cluster([own_pool(str(path), threads=threads, slots=1, isa=isa)])).wait_ready(120).url
                    for name, isa in own_instructions().items()}
            urls["llama.cpp"] = stack.enter_context(llama_server(str(path), threads=threads))
            wait_until(lambda url=urls["llama.cpp"]: request("GET", url + "/health").status == 200, 120, "llama.cpp is healthy")
            rates = {name: [] for name in urls}
            for number in rounds_within(rounds, seconds / len(types)):
                for name, url in urls.items():
                    measure_random(url, rates[name], number)
            size = path.stat().st_size
        bandwidth = bandwidth.better(read_bandwidth(threads))
        medians = {name: [statistics.median(column) for column in zip(*values)] for name, values in rates.items()}
        out[kind] = {**medians, "bytes": size, "bandwidth": bandwidth.best}
        llama = medians.pop("llama.cpp")
        targets = ("3x", "1.5x") if kind == "Q4_1" else ("1x", "1x")
        for name, ours in medians.items():
            share = ours[1] * size / bandwidth.best
            print(f"{kind:6}{name:14}{ours[0]:10.1f}{llama[0]:11.1f}{ours[0] / llama[0]:7.2f}x{ours[1]:20.1f}{llama[1]:11.1f}"
                  f"{ours[1] / llama[1]:7.2f}x{ours[1] * size / 1e9:11.1f}{share:14.0%}", flush=True)
            figures += [{"what": f"{kind}, {name}: prefill / llama.cpp ({rival_instructions()})", **ratio(ours[0], llama[0], targets[0])},
                        {"what": f"{kind}, {name}: decode / llama.cpp ({rival_instructions()})", **ratio(ours[1], llama[1], targets[1])},
                        {"what": f"{kind}, {name}: decode, share of the read bandwidth", "value": f"{share:.0%}"}]
    print(f"read bandwidth with the passes between and behind them: {bandwidth}")
    figures.append({"what": f"read bandwidth of {threads} threads", "value": str(bandwidth)})
    return {"types": out, "figures": figures}


# --- batch ---

NEVER_DRAWN = {"0": -100, "2": -100}  # what ends a text, in the default model and in random ones: so every answer has the same length


def batch_tokens(batch):
    """Of each answer. Large batches write fewer, so that a wave ends in seconds."""
    return 48 if batch < 16 else 24


def prompt_words(batch):
    """Of each prompt whose computing is timed; large batches send shorter ones."""
    return PROMPT_WORDS // 2 if batch < 16 else PROMPT_WORDS // 8


def wave(url, batch, tokens, number, words=2):
    """(seconds, tokens of all prompts) for `batch` answers of `tokens` tokens at once."""
    def one(index):
        text = f"{time.monotonic_ns()} {number} {index}:" + " a sea" * (words // 2)
        usage = answer(url, {"model": MODEL_NAME, "messages": [{"role": "user", "content": text}],
                             "max_tokens": tokens, "temperature": 1.0, "seed": index, "logit_bias": NEVER_DRAWN}, 300)
        if usage["completion_tokens"] != tokens:
            raise RuntimeError(f"an answer of {usage['completion_tokens']} tokens instead of {tokens}")
        return usage["prompt_tokens"]
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(batch) as pool:
        prompts = sum(pool.map(one, range(batch)))
    return time.monotonic() - start, prompts


def batch_rates(urls, batch, rounds, seconds):
    """({name: (prefill, decode) in tokens/s}, counted rounds): waves of one token behind a long prompt, and of long answers less those of
    one token, the engines in turn. Prefill has the time of the request and of one token in it."""
    rates, tokens = {name: [] for name in urls}, batch_tokens(batch)
    for number in rounds_within(rounds, seconds):
        for name, url in urls.items():
            short, _ = wave(url, batch, 1, number)
            if number > 0:
                filling, prompts = wave(url, batch, 1, number, prompt_words(batch))
                writing, _ = wave(url, batch, 1 + tokens, number)
                rates[name].append((prompts / filling, batch * tokens / (writing - short)))
    medians = {name: [statistics.median(column) for column in zip(*values)] for name, values in rates.items()}
    return medians, len(next(iter(rates.values())))


def bench_batch(rounds, threads, model, batches, types, seconds):
    """Of --model, of random models of `types`, or of the default model and random ones of the other types that it is not of."""
    own = [] if types else [model]
    kinds = types or ([] if model else ["Q8_0", "Q4_0", "Q4_K"])
    share, out = seconds / len(own + kinds), {"figures": []}
    with contextlib.ExitStack() as stack:
        for kind in own + kinds:
            path = str(stack.enter_context(random_model(kind))) if kind in kinds else model
            title = f"random weights, {kind}" if kind in kinds else MODEL_NAME
            out[title] = batch_of(rounds, threads, path, batches, title, share)
            out["figures"] += out[title].pop("figures")
    return out


def batch_of(rounds, threads, model, batches, title, seconds):
    slots, out, figures = max(batches), {}, []
    size = pathlib.Path(model or model_file()).stat().st_size
    bandwidth = read_bandwidth(threads)
    with contextlib.ExitStack() as stack:
        clusters = {name: stack.enter_context(Cluster([own_pool(model, threads=threads, slots=slots, ctx=256, isa=isa)])).wait_ready(120)
                    for name, isa in own_instructions().items()}
        theirs = stack.enter_context(llama_server(model, threads=threads, slots=slots, ctx=256))
        wait_until(lambda: request("GET", theirs + "/health").status == 200, 120, "llama.cpp is healthy")
        urls = {**{name: cluster.url for name, cluster in clusters.items()}, "llama.cpp": theirs}
        print(f"\nbatch, {title}: temperature 1, {threads} threads, {slots} slots of 256 tokens, medians of up to {rounds} interleaved rounds, "
              f"llama.cpp with {rival_instructions()}; read bandwidth {bandwidth}\n{'batch':>6}{'rounds':>8}  {'':14}{'prefill tok/s':>14}{'/ llama.cpp':>13}"
              f"{'decode tok/s':>14}{'/ llama.cpp':>13}{'/ memory roof':>15}")
        for batch in batches:
            rates, counted = batch_rates(urls, batch, rounds, seconds / len(batches))
            roof = batch * bandwidth.best / size  # the weights are read once a step; keys and values are small beside them
            out[batch] = {**rates, "roof": roof, "rounds": counted}
            llama = rates["llama.cpp"]
            for name, (prefill, decode) in rates.items():
                print(f"{batch:6}{counted:8}  {name:14}{prefill:14.1f}{prefill / llama[0]:12.2f}x{decode:14.1f}{decode / llama[1]:12.2f}x{decode / roof:15.0%}",
                      flush=True)
                if name != "llama.cpp":
                    figures.append({"what": f"{title}, {name}: {batch} at once",
                                    "value": f"prefill {prefill:.0f} tok/s, {prefill / llama[0]:.2f}x llama.cpp; decode {decode:.0f} tok/s, "
                                             f"{decode / llama[1]:.2f}x, {decode / roof:.0%} of the roof"})
        pids = {name: child_named(cluster.processes["pool-managerd"].pid, "workerd") for name, cluster in clusters.items()}
        pids["llama.cpp"] = child_named(os.getpid(), "llama_server")
        memory = {name: memory_mib(pid, "VmHWM") for name, pid in pids.items()}
    print(f"weights {size / 1e6:.0f} MB; resident memory at most: " + ", ".join(f"{name} {mib:.0f} MiB" for name, mib in memory.items()))
    return {"rates": out, "bandwidth": bandwidth.best, "high_water_mib": memory, "figures": figures}


# --- memory ---

def bench_memory(threads, model):
    """What each engine's process holds at most for the same file, slots and context, one answer served."""
    slots, ctx = 4, 2048
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(Cluster([own_pool(model, threads=threads, slots=slots, ctx=ctx)])).wait_ready(120)
        theirs = stack.enter_context(llama_server(model, threads=threads, slots=slots, ctx=ctx))
        wait_until(lambda: request("GET", theirs + "/health").status == 200, 120, "llama.cpp is healthy")
        for url in (cluster.url, theirs):
            measure_chat(url, MODEL_NAME, 0)
        pids = {"workerd": child_named(cluster.processes["pool-managerd"].pid, "workerd"), "llama.cpp's server": child_named(os.getpid(), "llama_server"),
                "orchestratord": cluster.processes["orchestratord"].pid, "pool-managerd": cluster.processes["pool-managerd"].pid}
        held = {name: (memory_mib(pid, "VmHWM"), memory_mib(pid, "RssAnon")) for name, pid in pids.items()}
    print(f"\nmemory: MiB of each process, {slots} slots of {ctx} tokens, behind one answer to a prompt of {PROMPT_WORDS} words\n"
          f"{'':22}{'resident at most':>18}{'its own now':>14}")
    for name, (most, own) in held.items():
        print(f"{name:22}{most:18.1f}{own:14.1f}")
    print("resident at most counts pages of the mapped model file; llama.cpp's figure holds its Python too")
    return {"mib": held, "figures": [{"what": f"memory of {name}, at most / its own", "value": f"{most:.0f} / {own:.0f} MiB"}
                                     for name, (most, own) in held.items()]}


# --- startup ---

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
    with Cluster([own_pool(model, threads=threads)]) as cluster:
        cluster.wait_ready(120)
        return time.monotonic() - start


def bench_startup(rounds, threads, model, seconds):
    ways = {"workerd, cpu": lambda: time_worker("cpu", threads, model), "gateway, manager and worker, cpu": lambda: time_cluster(threads, model),
            "llama.cpp's server": lambda: time_llama(threads, model)}
    if LAVAPIPE.exists():
        ways["workerd, lavapipe"] = lambda: time_worker("vulkan:0", threads, model)
    taken = {name: [] for name in ways}
    for _ in rounds_within(rounds - 1, seconds):
        for name, way in ways.items():
            taken[name].append(way())
    print(f"\nstartup: seconds until ready, {threads} threads, medians of {len(taken['workerd, cpu'])} interleaved rounds; the first of each in brackets")
    for name, times in taken.items():
        print(f"{name:36}{statistics.median(times):8.2f}  ({times[0]:.2f})")
    figures = [{"what": f"seconds until ready: {name}", "value": f"{statistics.median(times):.2f}", **({"target": "< 5"} if "lavapipe" in name else {})}
               for name, times in taken.items()]
    return {"seconds": {name: statistics.median(times) for name, times in taken.items()}, "figures": figures}


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


def decode_rates(targets, rounds, seconds):
    rates = {name: [] for name in targets}
    for number in rounds_within(rounds, seconds):
        for name, url in targets.items():
            _, _, tokens, took = measure_chat(url, MODEL_NAME, number)
            if number > 0:
                rates[name].append((tokens - 1) / took)
    return {name: statistics.median(values) for name, values in rates.items()}


def bench_busy(rounds, threads, model, seconds):
    """Decoding beside one spinning process a core. Workers on the CPU run at niceness 5; llama.cpp is measured there too."""
    with contextlib.ExitStack() as stack:
        targets = {"native": stack.enter_context(Cluster([own_pool(model, threads=threads, slots=1)])).wait_ready(120).url,
                   "llama.cpp": stack.enter_context(llama_server(model, threads=threads)),
                   "llama.cpp, nice 5": stack.enter_context(llama_server(model, threads=threads, niceness=5))}
        others = cores_busy()
        alone = decode_rates(targets, rounds, seconds / 3)
        with spinning(os.cpu_count()):
            busy = decode_rates(targets, rounds, 2 * seconds / 3)
    print(f"\nbusy: decode tokens/s, {threads} threads, alone ({others:.1f} cores at other work before it) and beside {os.cpu_count()} spinning "
          f"processes, medians of up to {rounds} interleaved rounds\n{'':20}{'alone':>10}{'busy':>10}{'kept':>8}{'native / this, busy':>22}")
    for name in targets:
        print(f"{name:20}{alone[name]:10.1f}{busy[name]:10.1f}{busy[name] / alone[name]:8.0%}{busy['native'] / busy[name]:21.2f}x")
    figures = [{"what": f"decode beside a busy neighbour: {name}", "value": f"{busy[name]:.1f} tok/s, {busy[name] / alone[name]:.0%} of alone"}
               for name in targets]
    return {"alone": alone, "busy": busy, "figures": figures}
