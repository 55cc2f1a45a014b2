"""`./llama-orch check`: format, lint, regenerate, spec-extract, links, and no difference to what is committed.

Each check prints one line and its findings. --fix lets the formatter write. Exit 0 iff everything holds.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "ci/tools"))

from lint_results import LintResults, default_folder  # noqa: E402

PYTHON = "/usr/bin/python3"
# The one with the packages of ci/requirements.txt, where `./llama-orch check` has made it.
VENV_PYTHON = ROOT / "build/venv/bin/python"
TOOLS_PYTHON = str(VENV_PYTHON) if VENV_PYTHON.exists() else PYTHON
BUILD = ROOT / "build/release"

# What is generated from the lists and committed. Each command is diff-clean on a second run.
REGENERATE = [
    [PYTHON, "ci/tools/gen_outcomes.py", "contracts/outcomes.yaml", "--markdown", ".docs/outcomes.md"],
    [PYTHON, "ci/tools/gen_config.py", "--regenerate", "."],
    [PYTHON, "ci/tools/gen_metrics.py", "contracts/metrics.yaml", "--spec", ".specs/metrics/otel-prom.md"],
    [PYTHON, "ci/tools/spec_extract.py"],
    [TOOLS_PYTHON, "ci/tools/gen_unicode_categories.py", "worker/text/unicode_categories.h"],
]
CHECKERS = [
    ("openapi", [PYTHON, "ci/scripts/check_openapi.py"]),
    ("links", [PYTHON, "ci/scripts/check_links.py"]),
    ("tree", [PYTHON, "ci/tidy/tidy_test.py"]),
]


def git_files(*patterns):
    out = subprocess.run(["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [p for p in out.split("\0") if p and (ROOT / p).exists()]


def run(command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode == 0, (done.stdout + done.stderr).strip()


def check_format(fix):
    files = git_files("*.cc", "*.h")
    return run(["clang-format-19", *(["-i"] if fix else ["--dry-run", "-Werror"]), *files])


def is_core(path):
    return "/core/" in path or path.startswith("common/base/")


def changed_files():
    """Sources of the last commit and of the working tree."""
    out = subprocess.run(["git", "diff", "--name-only", "HEAD~1", "--", "*.cc"], cwd=ROOT, capture_output=True, text=True, check=False)
    return set(out.stdout.split()) if out.returncode == 0 else set()


def check_tidy(_fix):
    if not (BUILD / "compile_commands.json").exists():
        return False, "no build/release/compile_commands.json: configure first (./llama-orch test fast)"
    entries = collections.defaultdict(list)
    for entry in json.loads((BUILD / "compile_commands.json").read_text()):
        entries[os.path.relpath(entry["file"], ROOT)].append(entry)
    changed = changed_files()
    files = [f for f in git_files("*.cc") if (is_core(f) or f in changed) and f in entries and not f.endswith("_test.cc")]
    version = subprocess.run(["clang-tidy-19", "--version"], capture_output=True, check=True).stdout
    results = LintResults(default_folder(), ROOT, version + (ROOT / ".clang-tidy").read_bytes())
    results.forget_old()

    def lint(path):
        key = results.key(entries[path])
        if results.good(key):
            return True, ""
        good, text = run(["clang-tidy-19", "--quiet", "-p", str(BUILD), path])
        if good:
            results.remember(key)
        return good, text

    findings = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        for path, (good, text) in zip(files, pool.map(lint, files)):
            if not good:
                findings.append(f"{path}\n" + "\n".join(l for l in text.splitlines() if "warning" in l or "error:" in l))
    return not findings, "\n".join(findings)


def check_regenerate(_fix):
    for command in REGENERATE:
        good, text = run(command)
        if not good:
            return False, f"{' '.join(command)}\n{text}"
    return True, ""


def check_diff(_fix):
    """Generation changed nothing that is committed. Only in a clean tree does a difference speak about the generators."""
    good, text = run(["git", "status", "--porcelain", "--", "contracts", ".specs", ".docs", "worker/text"])
    return good and not text, text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fix", action="store_true", help="let clang-format write")
    parser.add_argument("--only", action="append")
    args = parser.parse_args()
    checks = [("format", check_format), ("tidy", check_tidy), ("regenerate", check_regenerate), ("diff", check_diff)]
    checks += [(name, lambda _fix, command=command: run(command)) for name, command in CHECKERS]
    failed = 0
    for name, check in checks:
        if args.only and name not in args.only:
            continue
        start = time.monotonic()
        good, text = check(args.fix)
        print(f"{name}: {'ok' if good else 'FAILED'} ({time.monotonic() - start:.1f} s)", flush=True)
        if not good:
            failed += 1
            print(text[-8000:])
    print(f"check: {failed} failed")
    sys.exit(1 if failed else 0)


main()
