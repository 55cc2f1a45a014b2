"""What the engine's further answers cost: `bench.py speculation score masks`."""

import re
import statistics
import subprocess

from measure import rounds_within, step_bench
from orch_cluster import binary_dir, model_file

PASSAGE = ("The lighthouse at the end of the harbour was built in the spring of 1847 by two brothers who had never seen the sea before that "
           "year. They carried every stone by hand from the quarry behind the village, and when the tower stood as high as the church they lit a "
           "fire on top of it. Ships that had passed the coast for a century without stopping began to call there for water, bread and news.")
SPECULATED = {"a passage is copied": f"Text:\n{PASSAGE}\n\nThe same text, copied word for word:\n",
              "a passage is edited": f"Text:\n{PASSAGE}\n\nThe same text, but the lighthouse is called a tower:\n",
              "a text that goes on": "The history of the lighthouse begins in the second century, when the harbour of"}


def bench_speculation(rounds, threads, model, seconds):
    """`workerd --generate` with and without drafts: the same text, and what it gains or loses; and what the rows of a step cost."""
    def run(prompt, speculation):
        command = [binary_dir() / "workerd", "--model", model or model_file(), "--device", "cpu", "--threads", str(threads), "--ctx", "1024",
                   "--generate", prompt, "--raw", "--max-tokens", "100", "--temperature", "0", "--speculation", speculation]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        return done.stdout, float(re.search(r"\(([0-9.]+) tokens/s\)", done.stderr).group(1))
    out, figures = {}, []
    print(f"\nspeculation: decode tokens/s at temperature 0, {threads} threads, medians of up to {rounds} interleaved rounds")
    for name, prompt in SPECULATED.items():
        rates = {"off": [], "on": []}
        texts = set()
        for _ in rounds_within(rounds - 1, seconds / (1 + len(SPECULATED))):
            for way, seen in rates.items():
                text, rate = run(prompt, way)
                texts.add(text)
                seen.append(rate)
        if len(texts) != 1:
            raise RuntimeError(f"{name}: texts differ")
        off, on = statistics.median(rates["off"]), statistics.median(rates["on"])
        out[name] = {"off": off, "on": on}
        figures.append({"what": f"drafts, {name}", "value": f"{off:.1f} to {on:.1f} tok/s, {on / off:.2f}x"})
        print(f"{name:28} off {off:7.1f}  on {on:7.1f}  {on / off:.2f}x, the same text", flush=True)
    steps = step_bench(threads, model or model_file(), rounds)[1]
    one, alone = steps[1]
    print(f"{'rows of a step':>16}{'one sequence ms':>17}{'of one row':>12}{'a batch ms':>12}{'of one row':>12}")
    for rows, (sequence, batch) in steps.items():
        print(f"{rows:16}{sequence * 1e3:17.2f}{sequence / one:11.2f}x{batch * 1e3:12.2f}{batch / alone:11.2f}x")
    return {"texts": out, "steps": steps, "figures": figures}


def bench_score(rounds, threads, model):
    """32 items behind one query in one request, which computes the query once, against a request for each item."""
    command = [binary_dir() / "score_bench", f"--model={model or model_file()}", f"--threads={threads}", "--items=32", f"--rounds={rounds}"]
    out = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout
    items, shared_rows, shared_ms, alone_rows, alone_ms = (float(x) for x in out.split()[1:])
    print(f"\nscore: {items:.0f} items behind one query, {threads} threads, medians of {rounds} interleaved rounds; the same scores\n"
          f"{'':18}{'rows computed':>15}{'ms':>10}")
    print(f"{'one request':18}{shared_rows:15.0f}{shared_ms:10.0f}\n{'a request an item':18}{alone_rows:15.0f}{alone_ms:10.0f}")
    print(f"shared query: {alone_rows / shared_rows:.2f}x fewer rows, {alone_ms / shared_ms:.2f}x faster")
    return {"rows": [shared_rows, alone_rows], "ms": [shared_ms, alone_ms],
            "figures": [{"what": "score of 32 items, rows: one by one / shared", "value": f"{alone_rows:.0f} / {shared_rows:.0f}, "
                         f"{alone_rows / shared_rows:.2f}x", "target": "3x"},
                        {"what": "score of 32 items, ms: one by one / shared", "value": f"{alone_ms:.0f} / {shared_ms:.0f}, {alone_ms / shared_ms:.2f}x",
                         "target": "3x"}]}


def bench_masks(model):
    """What structured output costs: compiling a constraint, masks that are found anew and masks that are kept."""
    out = subprocess.run([binary_dir() / "mask_bench", model or model_file()], capture_output=True, text=True, timeout=300, check=True).stdout
    print(f"\nmasks of structured output, one thread:\n{out}", end="")
    rows = re.findall(r"^(.+?)\s+compile\s+([\d.]+) us, mask cold\s+([\d.]+) us, known states\s+([\d.]+) us, kept\s+([\d.]+) ns", out, re.MULTILINE)
    return {"figures": [{"what": f"constraint {name.strip()}: compile, mask, kept mask", "value": f"{compiled} us, {cold} us, {kept} ns"}
                        for name, compiled, cold, _, kept in rows]}
