"""Runs the tests of a tier and leaves a proof bundle: `./llama-orch test [fast|full|nightly|gpu]`.

Every step is a command of the tree, so that each can be run alone. Output goes to build/proof/<run_id>/logs/, the closing
lines of every runner are printed, and the exit status is 0 only if every step passed and verify_proof.sh accepts the bundle.
"""

import argparse
import concurrent.futures
import datetime
import hashlib
import json
import os
import pathlib
import platform
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[1]
RELEASE = ROOT / "build/release"
VENV_PYTHON = ROOT / "build/venv/bin/python"
TIERS = ["fast", "full", "nightly"]  # each contains the ones before it; gpu stands alone


class Step:
    """One command. `tests` says how its executed tests are found: ctest, pytest or gtest (one junit file), behave (a folder of them) or
    none. Where a step with `ends_run` fails, nothing behind it can be judged. A step that runs `beside` those behind it takes what they
    leave of the processor (nice 19) and is judged at the end of its tier."""

    def __init__(self, name, tier, command, tests="none", timeout=1200, env=None, ends_run=False, beside=False):
        self.name, self.tier, self.command, self.tests, self.timeout, self.env = name, tier, command, tests, timeout, env or {}
        self.ends_run, self.beside = ends_run, beside


def ninja(directory, *targets):
    return ["ninja", "-C", str(directory), *targets]


def ctest(name, tier, directory, *arguments, timeout=1200):
    return Step(name, tier, ["ctest", "--test-dir", str(directory), "--output-on-failure", "--no-tests=error", *arguments,
                             "--output-junit", "@JUNIT@"], "ctest", timeout)


def pytest(name, tier, path, *arguments, timeout=1200, env=None):
    return Step(name, tier, [str(VENV_PYTHON), "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "--junitxml", "@JUNIT@", path, *arguments],
                "pytest", timeout, env)


def chaos(name, tier, **options):
    """Processes in network namespaces: whoever is not root becomes it in a namespace of users, with a loopback and a /run of its own."""
    step = pytest(name, tier, "test-harness/chaos/test_chaos.py", **options)
    if os.geteuid() != 0:
        enter = 'mount -t tmpfs tmpfs /run && ip link set lo up && exec "$@"'
        step.command[:0] = ["unshare", "--user", "--map-root-user", "--mount", "--net", "sh", "-c", enter, "sh"]
    return step


def behave(name, tier, path):
    return Step(name, tier, [str(VENV_PYTHON), "-m", "behave", "--no-color", "--format", "progress3", "--junit", "--junit-directory", "@JUNIT@",
                             path], "behave")


def preset(name):
    return ["cmake", "--preset", name]


# What the address sanitizer sees: everything that parses, decides or shares memory, each as its own test binary.
ASAN_TESTS = ["base_test", "fuzz_replay_test", "common_grammar_test", "worker_grammar_test",
              "sse_parser_test", "config_test", "runtime_test", "gateway_text_test", "orchestratord_core_test",
              "orchestratord_journal_test", "gateway_journal_test", "orchestratord_model_test",
              "pool_core_test", "pool_shell_test", "lease_arbiter_test", "generation_test", "worker_model_test", "worker_core_test", "text_test",
              "worker_cpu_test", "native_engine_test", "worker_service_test", "adapter_dialects_test", "cli_test"]
# libFuzzer targets, each for a bounded time with a fixed seed; their inputs come from generators in their sources and from
# the corpora beside them, which `<name>_replay` runs in every tier.
FUZZ_TESTS = ["sse_parser_fuzz", "http_text_fuzz", "request_fuzz", "gguf_fuzz", "llama_cpp_fuzz", "grammar_fuzz", "tokenizer_fuzz",
              "chat_template_fuzz"]
# What the thread sanitizer sees: cores, mailbox, Asio and the compute threads; Debian's gRPC is not instrumented.
TSAN_TESTS = ["runtime_test", "orchestratord_core_test", "pool_core_test", "lease_arbiter_test", "generation_test", "native_engine_test",
              "thread_pool_test"]


def sanitized(name, tests):
    directory = ROOT / "build" / name
    return [Step(f"{name}-configure", "nightly", preset(name)),
            Step(f"{name}-build", "nightly", ninja(directory, *tests), timeout=3000),
            ctest(f"ctest-{name}", "nightly", directory, "-R", "^(" + "|".join(tests) + ")$", "-j", str(os.cpu_count() or 2))]


def script(name, tier, *command, timeout=1200, env=None):
    return Step(name, tier, [str(VENV_PYTHON), *command], timeout=timeout, env=env)


def first_build(tier):
    return [Step("configure", tier, preset("release"), ends_run=True), Step("build", tier, ninja(RELEASE), timeout=3000, ends_run=True)]


def gpu(part, tests="none", timeout=1800, ends_run=False):
    """A part of the first run on a GPU; it refuses a machine whose only Vulkan device is software."""
    report = ["--junit", "@JUNIT@"] if tests == "gtest" else []
    command = [str(VENV_PYTHON), "test-harness/gpu/first_run.py", part, *report]
    return Step(f"gpu-{part}", "gpu", command, tests, timeout, ends_run=ends_run)


def steps():
    jobs = str(os.cpu_count() or 2)
    model = os.environ.get("LLAMA_ORCH_MODEL", "")
    agreement = "test-harness/agreement"
    # Both engines are deterministic, so a fixed seed makes the judgement repeatable; by hand each run draws a new one.
    haiku = {"TZ": "Europe/Amsterdam", "REQUIRE_REAL_LLAMA": "1", "LLAMA_ORCH_JUDGE_SEED": "7"}
    logits = [f"{agreement}/logits_agreement.py", "--model", model, "--tool", str(RELEASE / "bin/worker-logits")]
    return [
        *first_build("fast"),
        ctest("ctest-fast", "fast", RELEASE, "-L", "fast", "-j", jobs),
        # The linter is four minutes of two cores; the tests of whole processes leave more than that idle.
        Step("check", "full", [sys.executable, "ci/check.py"], timeout=2400, beside=True),
        ctest("ctest-full", "full", RELEASE, "-LE", "fast|nightly", "-j", jobs),
        pytest("cdc", "full", "test-harness/cdc"),
        pytest("e2e", "full", "test-harness/e2e"),
        behave("bdd", "full", "test-harness/bdd/features"),
        pytest("chaos-judges", "full", "test-harness/chaos/test_judge.py"),
        chaos("chaos-slice", "full", env={"CHAOS_MOMENTS": "1", "CHAOS_ENGINES": "mock"}),
        pytest("haiku-guards", "full", "test-harness/haiku"),
        pytest("gpu-guards", "full", "test-harness/gpu"),
        pytest("bench-guards", "full", "test-harness/load"),
        script("haiku-gate", "full", "test-harness/haiku/haiku_gate.py", env=haiku),
        script("tokenizer-agreement", "full", f"{agreement}/tokenizer_agreement.py", "--model", model, "--tool", str(RELEASE / "bin/tokenize_tool")),
        pytest("structured-guards", "full", "test-harness/structured"),
        script("structured-agreement", "full", "test-harness/structured/structured_agreement.py", "--model", model,
               "--tool", str(RELEASE / "bin/constraint_tool")),
        script("template-agreement", "full", f"{agreement}/template_agreement.py", "--model", model, "--tool", str(RELEASE / "bin/render_tool")),
        script("tokenizer-agreement-tiny", "full", f"{agreement}/tokenizer_agreement.py", "--tiny", "--tool", str(RELEASE / "bin/tokenize_tool"),
               "--cases", "2000"),
        script("dequantisation-agreement", "full", f"{agreement}/dequantisation_agreement.py", "--tool", str(RELEASE / "bin/dequantise_tool")),
        script("architecture-agreement", "full", f"{agreement}/architecture_agreement.py", "--tool", str(RELEASE / "bin/worker-logits"),
               "--positions", "48"),
        script("embedding-agreement", "full", f"{agreement}/embedding_agreement.py", "--model", model, "--workerd", str(RELEASE / "bin/workerd")),
        pytest("agreement-guards", "full", "test-harness/agreement"),
        script("logits-agreement", "full", *logits, "--texts", "8", "--positions", "64", "--prose", "0", timeout=900),
        # The seed whose cells have a prefix hit, preemptions, resumptions, and drafts that are accepted and that are not.
        Step("determinism-model", "full", [str(RELEASE / "bin/determinism"), f"--model={model}", "--seed=13", "--cells=4"], timeout=300),
        script("logits-mutants", "full", f"{agreement}/mutants.py", *logits[1:], timeout=900),
        Step("determinism-model-vulkan", "nightly",
             [str(RELEASE / "bin/determinism_vulkan"), f"--model={model}", "--first=14", "--seeds=6", "--cells=6", "--vulkan"], timeout=3600),
        ctest("ctest-nightly", "nightly", RELEASE, "-L", "nightly", timeout=7200),
        *sanitized("asan", ASAN_TESTS + FUZZ_TESTS),
        *sanitized("tsan", TSAN_TESTS),
        script("logits-agreement-whole", "nightly", *logits, "--itself", timeout=5400),
        chaos("chaos", "nightly", timeout=7200),
        script("benchmarks", "nightly", "test-harness/load/bench.py", "all", timeout=7200),
        *first_build("gpu"),
        gpu("facts", ends_run=True),
        gpu("bytes"),
        gpu("kernels", "gtest"),
        gpu("determinism", timeout=3600),
        gpu("model", timeout=3600),
        gpu("haiku"),
        gpu("speed", timeout=3600),
        gpu("bench", timeout=3600),
    ]


def machine():
    model = next((l.split(":", 1)[1].strip() for l in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if l.startswith("model name")), "")
    memory = next(l for l in pathlib.Path("/proc/meminfo").read_text().splitlines() if l.startswith("MemTotal")).split()[1]
    return {"cpu": model, "cores": os.cpu_count(), "memory_kib": int(memory), "kernel": platform.release(),
            "system": pathlib.Path("/etc/os-release").read_text().splitlines()[0], "python": platform.python_version()}


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def executed(path):
    """(passed names, failed names, [(skipped name, reason)]) of a junit file or a folder of them; a missing file is no test."""
    passed, failed, skipped = [], [], []
    files = sorted(path.glob("*.xml")) if path.is_dir() else [path] if path.exists() else []
    for case in (case for file in files for case in ElementTree.parse(file).getroot().iter("testcase")):
        name = ".".join(filter(None, [case.get("classname"), case.get("name")]))
        skip = case.find("skipped")
        if skip is not None or case.get("status") in ("notrun", "disabled"):
            skipped.append((name, (skip.get("message") or "") if skip is not None else case.get("status")))
        elif case.find("failure") is not None or case.find("error") is not None or case.get("status") == "fail":
            failed.append(name)
        else:
            passed.append(name)
    return passed, failed, skipped


def gtest_cases(log):
    """The gtest cases behind ctest's entries, from the log; ctest itself knows only one name per binary."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return sorted(set(re.findall(r"\[       OK \] (\S+)", text))), sorted(set(re.findall(r"\[  SKIPPED \] (\S+)", text)))


def closing_lines(log, count=12):
    lines = [l.rstrip() for l in log.read_text(errors="replace").splitlines() if l.strip()]
    keep = [l for l in lines if re.search(r"Total Test time|passed|failed|skipped|no work to do|sec\*proc|seeds|VIOLATION|FAILED|\*\*\*", l)]
    return (keep or lines)[-count:]


def run_tidily(command, env, timeout, out):
    """The exit status; 124: too late; 1 also when it left something in its own folder for temporary files (OC-TEST-7015). That
    has a short path, because Unix sockets are made below it; pytest keeps the folders of its last run there."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp", ignore_cleanup_errors=True) as scratch:
        try:
            code = subprocess.run(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                  env={**env, "TMPDIR": scratch}, timeout=timeout, check=False).returncode
        except subprocess.TimeoutExpired:
            return 124
        left = sorted(entry for entry in os.listdir(scratch) if not entry.startswith("pytest-of-"))
    if code == 0 and left:
        out.write(f"left behind in the folder for temporary files: {' '.join(left)}\n".encode())
        return 1
    return code


class Run:
    def __init__(self, tier):
        stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%d-%H%M%S")
        self.id = os.environ.get("LLAMA_ORCH_RUN_ID") or f"{stamp}-{secrets.token_hex(4)}"
        self.tier, self.dir = tier, ROOT / "build/proof" / self.id
        (self.dir / "logs").mkdir(parents=True)
        (self.dir / "junit").mkdir()
        self.rows, self.seconds, self.beside = [], {}, []
        self.helper = concurrent.futures.ThreadPoolExecutor(max_workers=1)

    def all(self, tiers, chosen):
        """Whether every chosen step of these tiers passed, in the order of the tiers."""
        good = True
        for tier in tiers:
            goes_on = True
            for step in (s for s in chosen if s.tier == tier and goes_on):
                passed = self.run(step)
                good = passed and good
                goes_on = passed or not step.ends_run
            good = self.end_tier(tier) and good
            if not goes_on:
                break
        return good

    def run(self, step):
        """Whether it passed; a step that runs beside the others is only begun."""
        start = time.monotonic()
        print(f"--- {step.name}{' (beside the next ones)' if step.beside else ''}", flush=True)
        if step.beside:
            self.beside.append((step, self.helper.submit(self.execute, step)))
            return True
        passed = self.report(step, *self.execute(step))
        self.spent(step.tier, start)
        return passed

    def end_tier(self, tier):
        """Whether the steps that ran beside those of the tier passed."""
        start = time.monotonic()
        ended = [self.report(step, *running.result()) for step, running in self.beside]
        self.beside.clear()
        self.spent(tier, start)
        return all(ended)

    def spent(self, tier, start):
        self.seconds[tier] = self.seconds.get(tier, 0) + time.monotonic() - start

    def execute(self, step):
        log, junit = self.dir / "logs" / f"{step.name}.log", self.dir / "junit" / (step.name + ("" if step.tests == "behave" else ".xml"))
        command = [part.replace("@JUNIT@", str(junit)) for part in step.command]
        if step.beside:
            command[:0] = ["nice", "-n", "39"]  # from any niceness to 19
        start = time.monotonic()
        env = {**os.environ, "LLAMA_ORCH_PROOF_DIR": str(self.dir), "LLAMA_ORCH_BINARIES": str(RELEASE / "bin"), "PYTHONDONTWRITEBYTECODE": "1",
               "PYTHONPATH": str(ROOT / "test-harness/cluster"), "GTEST_OUTPUT": f"xml:{self.dir}/gtest/{step.name}/", **step.env}
        with open(log, "wb") as out:
            code = run_tidily(command, env, step.timeout, out)
        return log, junit, code, time.monotonic() - start

    def report(self, step, log, junit, code, took):
        if step.tests == "ctest":
            self.keep_output(step)
        passed, failed, skipped = executed(junit)
        if code != 0:
            print(log.read_text(errors="replace")[-6000:])
        elif step.tests != "none":
            print("\n".join(closing_lines(log)))
        print(f"    {step.name}: {'ok' if code == 0 else f'FAILED ({code})'} in {took:.0f} s", flush=True)
        self.rows.append({"step": step.name, "tier": step.tier, "exit": code, "seconds": round(took, 1), "passed": passed, "failed": failed,
                          "skipped": skipped, "gtest": gtest_cases(self.dir / "logs" / f"{step.name}.output.log")})
        return code == 0

    def keep_output(self, step):
        """What the tests of a ctest step printed; ctest itself shows only the failing ones."""
        directory = pathlib.Path(step.command[step.command.index("--test-dir") + 1])
        last = directory / "Testing/Temporary/LastTest.log"
        if last.exists():
            shutil.copyfile(last, self.dir / "logs" / f"{step.name}.output.log")

    def seeds(self):
        """The lines in which a step named the seeds it ran."""
        lines = [f"{log.stem}: {line.strip()}" for log in sorted((self.dir / "logs").glob("*.log"))
                 for line in log.read_text(errors="replace").splitlines() if re.search(r"\bseeds? (from|=)|--seeds?=", line)]
        return "".join(f"{line}\n" for line in dict.fromkeys(lines))

    def write_compliance(self):
        subprocess.run([sys.executable, "ci/tools/spec_extract.py", "--results", str(self.dir), "--output", str(self.dir / "COMPLIANCE.md")],
                       cwd=ROOT, check=False)

    def write(self):
        cases = sorted({c for row in self.rows for c in row["passed"] + row["gtest"][0]})
        skips = [{"step": row["step"], "test": n, "reason": r, "in_scope": True} for row in self.rows for n, r in row["skipped"]]
        skips += [{"step": row["step"], "test": n, "reason": "see the step's log", "in_scope": True} for row in self.rows for n in row["gtest"][1]]
        if seeds := self.seeds():
            (self.dir / "seeds.txt").write_text(seeds)
        self._json("tests_executed.json", cases)
        self._json("skips.json", skips)
        self._json("steps.json", [{k: row[k] for k in ("step", "tier", "exit", "seconds")} for row in self.rows])
        self.write_compliance()
        self._json("provenance.json", {"run_id": self.id, "tier": self.tier, "revision": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain")),
                                       "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "machine": machine()})
        lines = []
        for path in sorted(self.dir.rglob("*")):
            if path.is_file() and path.name != "manifest.sha256":
                lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(self.dir)}")
        (self.dir / "manifest.sha256").write_text("\n".join(lines) + "\n")

    def _json(self, name, value):
        (self.dir / name).write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tier", nargs="?", default="full", choices=[*TIERS, "gpu"])
    parser.add_argument("--only", action="append", help="run only steps whose name contains this")
    args = parser.parse_args()
    wanted = TIERS[:TIERS.index(args.tier) + 1] if args.tier in TIERS else [args.tier]
    chosen = [s for s in steps() if s.tier in wanted and (not args.only or any(o in s.name for o in args.only))]
    if not chosen:
        sys.exit(f"no step belongs to tier '{args.tier}'")
    run = Run(args.tier)
    good = run.all(wanted, chosen)
    run.write()
    for tier in wanted:
        print(f"tier {tier}: {run.seconds.get(tier, 0):.0f} s")
    verified = subprocess.run(["bash", "ci/scripts/verify_proof.sh", str(run.dir)], cwd=ROOT, check=False).returncode == 0
    print(f"proof bundle: {run.dir.relative_to(ROOT)} ({'accepted' if verified else 'REFUSED'})")
    sys.exit(0 if good and verified else 1)


if __name__ == "__main__":
    main()
