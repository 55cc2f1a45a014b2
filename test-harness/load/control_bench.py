"""The figures of the control plane: `bench.py control`. Each comes from a test or a tool of its own; those in virtual time are the same
on every machine, those in ns and seeds/s are not."""

import os
import pathlib
import re
import subprocess
import tempfile
import xml.etree.ElementTree as ElementTree

from orch_cluster import binary_dir


def output(*command, timeout=300):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{pathlib.Path(command[0]).name} ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
    return done.stdout


def lines_of(text, *patterns):
    return [line.strip() for line in text.splitlines() if any(re.search(pattern, line) for pattern in patterns)]


def fairness(folder):
    report = pathlib.Path(folder, "fairness.xml")
    tests = binary_dir().parent / "tests"
    output(tests / "orchestratord_core_test", "--gtest_filter=TenantRun.F5*", f"--gtest_output=xml:{report}")
    found = {p.get("name"): float(p.get("value")) for p in ElementTree.parse(report).getroot().iter("property")}
    gateways = lines_of(output(tests / "orchestratord_gateways_test"), r"^two gateways")
    return [{"what": "fairness gap / B1, 10:1 aggressor, weights 1:2:4", "value": f"{found['gap_over_bound']:.3f}", "target": "<= 1"},
            {"what": "Jain's index of normalised service", "value": f"{found['jain']:.5f}", "target": ">= 0.98"},
            *({"what": "the same bound between gateways", "value": line.split(": ", 1)[1], "target": "gap over bound <= 1"} for line in gateways)]


def promises():
    text = output(binary_dir().parent / "tests/orchestratord_promises_test")
    rows = [(r"^offered +[\d.]+x: goodput", "goodput", ""), (r"^goodput at 3x", "goodput", ">= 95 %"), (r"^Retry-After", "Retry-After", "p90 <= 25 %"),
            (r"^waves of", "Retry-After", ""), (r"^told .*: +[1-9]", "on_time_probability", ""), (r"predicted to wait", "predicted start", "")]
    return [{"what": what, "value": line, "target": target} for pattern, what, target in rows for line in lines_of(text, pattern)]


def clocked(folder, threads, seeds):
    out = [{"what": "queue, ns an operation", "value": re.sub(r"\s+", " ", line)} for line in lines_of(output(binary_dir() / "queue_bench"), "jobs")]
    out += [{"what": "placement", "value": re.sub(r"\s+", " ", line)} for line in lines_of(output(binary_dir() / "placement_bench"), "replicas")]
    out += [{"what": "journal", "value": re.sub(r"\s+", " ", line)} for line in lines_of(output(binary_dir() / "journal_bench", folder), "group")]
    simulated = output(binary_dir() / "sim", "--seed=1", f"--seeds={seeds}", f"--threads={threads}", timeout=600)
    return out + [{"what": f"simulator, {seeds} seeds on {threads} threads", "value": line} for line in lines_of(simulated, "seeds/s", "no violation")]


def bench_control(threads, seeds=500):
    with tempfile.TemporaryDirectory(prefix="orch") as folder:
        figures = fairness(folder) + promises() + clocked(folder, threads or os.cpu_count(), seeds)
    print("\ncontrol plane: fairness, promises and predictions in virtual time; operations and seeds on this machine's clock")
    for figure in figures:
        print(f"{figure['what']:52} {figure['value']}")
    return {"figures": figures}
