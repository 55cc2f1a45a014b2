#!/usr/bin/env python3
"""Rules of the tree that no compiler checks (OC-TEST-7014). usage: tidy.py [ROOT]; exits 1 and prints path:line: rule.

  purity    cores, common/base and the other pure folders include the standard library (less its threads, clocks, I/O and
            randomness), generated tables and each other, and call nothing that reads a clock, the environment or a random device
  paths     no absolute path of somebody's machine
  lines     C++, protocol and shader sources are at most 120 columns wide, scripts 160
  size      no file over 1 MiB; sources over 500 lines are named as a warning
  names     no class called Util, Helper or Impl; to-do comments name their topic
  waiting   tests do not sleep
"""

import pathlib
import re
import subprocess
import sys

COLUMNS_MAX = {".h": 120, ".cc": 120, ".proto": 120, ".comp": 120, ".glsl": 120, ".py": 160, ".sh": 160, ".cmake": 160, ".txt": 160}
SOURCE_LINES_WARN = 500
FILE_BYTES_MAX = 1 << 20
CPP = (".h", ".cc")
PURE_FOLDERS = ("common/base/", "common/grammar/", "worker/grammar/", "worker/text/", "worker/lease/")  # beside every core/
IMPURE_FILES = ("worker/text/gguf_vocabulary",)  # reads the vocabulary out of a mapped file
# A JSON document is a value; dialects turn it into events and back.
PURE_LIBRARIES = {"adapters/core/": {"nlohmann/json.hpp", "nlohmann/json_fwd.hpp"}}

BANNED_STD = {
    "thread", "mutex", "shared_mutex", "atomic", "condition_variable", "future", "semaphore", "latch", "barrier", "stop_token",
    "chrono", "iostream", "fstream", "filesystem", "random", "ctime", "csignal", "iomanip", "sstream", "regex", "locale",
    "coroutine", "syncstream", "print",
}
# check.h prints its last words; that is the only I/O below a core.
ALLOWED_STD = {"common/base/check.h": {"cstdio", "cstdlib"}}
BANNED_C_HEADERS = {"cstdio"}
BANNED_CALLS = re.compile(
    r"::now\(|random_device|\bgetenv\b|\bstd::rand\b|\bsrand\b|\btime\(nullptr\)|\bclock_gettime\b|\bgettimeofday\b|\bsleep_for\b|"
    r"\bstd::(thread|jthread|mutex|atomic|async)\b|\bprintf\(|\bstd::c(out|err)\b|\bspdlog::|\babsl::|\bboost::|\bgrpc::")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
MACHINE_PATH = re.compile(r"(?<![\w.$}~-])/(?:work|home|root|Users)/[\w.]|(?<![\w.$}~-])/tmp/[\w](?!.*XXXXXX)")
BAD_CLASS = re.compile(r"\b(?:class|struct)\s+(?:\w*(?:Util|Utils|Helper|Impl))\b(?!\s*;)")
BARE_TODO = re.compile(r"\b(?:FIXME|XXX|HACK)\b|\bTODO\b(?!\(|\.md)")
SLEEP = re.compile(r"\bsleep_for\b|\busleep\(|\bnanosleep\(|(?<![\w.])sleep\(")
RULES_OWN_FILES = ("ci/tidy/",)  # they spell out what they forbid


def is_core(name):
    return name.endswith(CPP) and ("/core/" in name or name.startswith(PURE_FOLDERS)) and not name.startswith(IMPURE_FILES)


def is_test(name):
    return name.endswith(("_test.cc", "_fuzz.cc", "_testing.h", "_fixture.h")) or "/testing/" in name


def uncommented(line):
    return line.split("//", 1)[0]


def check_purity(name, lines):
    test = is_test(name)
    for number, line in enumerate(lines, 1):
        include = INCLUDE.match(line)
        if include:
            problem = include_problem(name, include.group(1) == "<", include.group(2), test)
            if problem:
                yield number, f"purity: {problem}"
        elif not test and name not in ALLOWED_STD and (call := BANNED_CALLS.search(uncommented(line))):
            yield number, f"purity: {call.group()} in a core"


def include_problem(name, angled, header, test):
    if header in ALLOWED_STD.get(name, ()):
        return None
    if angled:
        if header in BANNED_STD or header in BANNED_C_HEADERS:
            return f"<{header}> in a core"
        if any(name.startswith(folder) and header in headers for folder, headers in PURE_LIBRARIES.items()):
            return None
        if ("/" in header or header.endswith(".h")) and not test:
            return f"<{header}>: a core includes only the standard library"
        return None
    allowed = header.startswith(PURE_FOLDERS + ("gen/",)) or "/core/" in header or "/" not in header
    if not allowed and not (test and header.startswith("common/testing/")):
        return f'"{header}": a core includes only pure folders and gen'
    if header.startswith("gen/") and ("orch/v1" in header or header.startswith("gen/config")):
        return f'"{header}": messages and configuration stay in the shell'
    return None


def columns_max(name):
    path = pathlib.PurePosixPath(name)
    return COLUMNS_MAX.get(path.suffix) if path.suffix != ".txt" or path.name == "CMakeLists.txt" else None


def check_text(name, lines):
    columns = columns_max(name)
    for number, line in enumerate(lines, 1):
        if columns and len(line) > columns:
            yield number, f"lines: {len(line)} columns, at most {columns}"
        if MACHINE_PATH.search(line):
            yield number, f"paths: a path of one machine: {MACHINE_PATH.search(line).group()}..."
        if name.endswith(CPP):
            if BAD_CLASS.search(line):
                yield number, f"names: {BAD_CLASS.search(line).group()}"
            if is_test(name) and SLEEP.search(uncommented(line)):
                yield number, "waiting: a test that sleeps"
        if name.endswith((*CPP, ".proto", ".comp")) and BARE_TODO.search(line):
            yield number, "names: a to-do without a topic, or a marker word"


def tracked(root):
    out = subprocess.run(["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                         capture_output=True, check=False)
    if out.returncode == 0:
        names = out.stdout.decode("utf-8").split("\0")
    else:
        names = [path.relative_to(root).as_posix() for path in root.rglob("*")]
    return sorted(name for name in set(names) if name and (root / name).is_file())


def check(root):
    """(problems, warnings), each as "path:line: text"."""
    root = pathlib.Path(root)
    problems, warnings = [], []
    for name in tracked(root):
        path = root / name
        if path.stat().st_size > FILE_BYTES_MAX:
            problems.append(f"{name}:1: size: {path.stat().st_size} bytes, at most {FILE_BYTES_MAX}")
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        if name.startswith(RULES_OWN_FILES):
            continue
        found = list(check_text(name, lines))
        if is_core(name):
            found += check_purity(name, lines)
        problems += [f"{name}:{number}: {text}" for number, text in found]
        if columns_max(name) and len(lines) > SOURCE_LINES_WARN:
            warnings.append(f"{name}:1: size: {len(lines)} lines, better under {SOURCE_LINES_WARN}")
    return problems, warnings


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2]
    problems, warnings = check(root)
    for warning in warnings:
        print(f"warning: {warning}")
    for problem in problems:
        print(problem)
    print(f"tidy: {'FAIL, ' + str(len(problems)) + ' problems' if problems else 'ok'}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
