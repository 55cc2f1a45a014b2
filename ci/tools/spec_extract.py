#!/usr/bin/env python3
"""Reads .specs/ and the tree and writes .specs/requirements/*.yaml and .specs/COMPLIANCE.md: id -> tests -> code -> status.

usage: spec_extract.py [--root DIR] [--check] [--results DIR --output FILE]
  --check      writes nothing; exits 1 when a committed file differs from what would be written
  --results    folder with JUnit files of a run (gtest: GTEST_OUTPUT=xml:DIR/, ctest: --output-junit) and the
               steps.json of the test command; needs --output, where the compliance table of that run goes; without it no id can be `proven`
Refuses duplicate ids, hyphens that are not ASCII, malformed marks, requirements without an RFC 2119 word, and ids cited in
code or tests that no specification defines. What the marks and statuses mean: .specs/README.md.
"""

import argparse
import dataclasses
import fnmatch
import json
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import yaml

ID = r"(?:ORCH-[0-9]{4}|OC-[A-Z]+(?:-SDK)?-(?:[0-9]{4}|[LSFEJM][0-9]{1,2}))"
BULLET = re.compile(rf"- ({ID})(-DEPR)?\s+(.*)")
LOOKS_LIKE_ID = re.compile(r"- (?:ORCH|OC)[-_A-Za-z0-9]", re.IGNORECASE)
CITED = re.compile(r"(?<![A-Za-z0-9])(ORCH[-_]?[0-9]{4}|OC[-_][A-Z]+(?:[-_]SDK)?[-_](?:[0-9]{4}|[LSFEJM][0-9]{1,2}))(?![0-9])")
SHORT = re.compile(r"(?<![A-Za-z0-9_.-])([LSFEJM])([0-9]{1,2})(?![A-Za-z0-9-])")
SHORT_IN_NAME = re.compile(r"(?:^|test_|_)([LSFEJM])([0-9]{1,2})(?=_|$)")
AREAS = {"L": "OC-LEASE", "S": "OC-SLOT", "F": "OC-FAIR", "E": "OC-ADMIT", "J": "OC-JOB", "M": "OC-MIGR"}
ODD_HYPHENS = re.compile("[\u00ad\u2010-\u2015\u2212\ufe58\ufe63\uff0d]")
ODD_ID = re.compile("(?:ORCH|OC)[\u00ad\u2010-\u2015\u2212\ufe58\ufe63\uff0d]")
WORDS = (("must", re.compile(r"\bMUST\b")), ("should", re.compile(r"\bSHOULD\b")), ("may", re.compile(r"\bMAY\b")))
MARK = re.compile(r"\{([^{}]*)\}")
STRAY_MARK = re.compile(r"\{(?:n/a|shown:|amended:|later\})")
TRAILING_MARKS = re.compile(r"(?:\s*\{[^{}]*\})*\s*$")
GTEST = re.compile(r"^\s*(?:TEST(?:_F|_P)?|TYPED_TEST(?:_P)?|RC_GTEST_(?:FIXTURE_)?PROP)\(\s*(\w+)\s*,\s*(\w+)")
PYTEST = re.compile(r"^\s*(?:async )?def (test_\w+)\(")
# In a test's name further numbers of the same component may follow an id: ORCH_2001_2002_admission.
FURTHER = re.compile(r"(?<![A-Za-z0-9])(ORCH_?|OC_[A-Z]+_)[0-9]{4}((?:_[0-9]{4})+)(?![0-9])")
CTEST = re.compile(r"^\s*(?:add_test\(NAME\s+|\w+_test\()(\w+)")
STEP = re.compile(r"\b(?:Step|ctest|pytest|chaos|behave|script)\(\"([\w-]+)\"")
SCENARIO = re.compile(r"^\s*Scenario(?: Outline)?:\s*(.*)")
COMMENT = re.compile(r"^\s*(?://|#|@)")
SOURCES = {".cc", ".h", ".py", ".proto", ".comp", ".cmake", ".yaml", ".yml", ".sh", ".feature", ".json"}
SKIPPED = (".specs/", ".docs/", "build/", ".venv/")


@dataclasses.dataclass
class Requirement:
    id: str
    source: str
    section: str
    text: str
    level: str = "info"
    later: bool = False
    retired: bool = False
    amended: str = ""
    shown: list = dataclasses.field(default_factory=list)
    absent: dict = dataclasses.field(default_factory=dict)  # contract | failure | shown -> why
    tests: set = dataclasses.field(default_factory=set)     # "path::Suite.name"
    code: set = dataclasses.field(default_factory=set)
    contract: set = dataclasses.field(default_factory=set)


class Problems(list):
    def add(self, where, what):
        self.append(f"{where}: {what}")


def read_specs(root, problems):
    found = {}
    for path in sorted((root / ".specs").rglob("*.md")):
        name = path.relative_to(root / ".specs").as_posix()
        text = path.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            if ODD_HYPHENS.search(line):
                problems.add(f".specs/{name}:{number}", "a hyphen or dash that is not ASCII")
        if name in ("README.md", "COMPLIANCE.md", "CHANGELOG_SPEC.md") or name.startswith("proposals/"):
            continue
        for number, section, bullet in bullets(text):
            take_bullet(root, found, f".specs/{name}", number, section, bullet, problems)
    return found


def bullets(text):
    """(line, section, joined text) of each top-level bullet."""
    section, current = "", None
    for number, line in enumerate(text.splitlines() + [""], 1):
        if current and line.startswith("  ") and line.strip():
            current[2] += " " + line.strip()
            continue
        if current:
            yield tuple(current)
            current = None
        if line.startswith("#"):
            section = line.lstrip("# ").strip()
        elif line.startswith("- "):
            current = [number, section, line.rstrip()]


def take_bullet(root, found, source, number, section, bullet, problems):
    where = f"{source}:{number}"
    match = BULLET.match(bullet)
    if not match:
        if LOOKS_LIKE_ID.match(bullet):
            problems.add(where, f"malformed id: {bullet[:40]}")
        return
    id_, retired, text = match.group(1), bool(match.group(2)), match.group(3)
    if id_ in found:
        problems.add(where, f"{id_} is defined twice, first in {found[id_].source}")
        return
    marks = TRAILING_MARKS.search(text)
    requirement = Requirement(id_, source, section, text[: marks.start()].strip(), retired=retired)
    for level, word in WORDS:
        if word.search(text):
            requirement.level = level
            break
    else:
        problems.add(where, f"{id_} has none of MUST, SHOULD, MAY")
    if STRAY_MARK.search(requirement.text):
        problems.add(where, f"{id_} has a mark that does not stand at its end or has braces within")
    for mark in MARK.findall(marks.group()):
        take_mark(root, requirement, where, mark, problems)
    found[id_] = requirement


def take_mark(root, requirement, where, mark, problems):
    absent = re.fullmatch(r"n/a (contract|failure|shown): (.{8,})", mark)
    shown = re.fullmatch(r"shown: (metric|log) ([a-z_]+)", mark)
    amended = re.fullmatch(r"amended: ADR-([0-9]{4})", mark)
    if mark == "later":
        requirement.later = True
    elif absent:
        requirement.absent[absent.group(1)] = absent.group(2)
    elif shown:
        requirement.shown.append(f"{shown.group(1)} {shown.group(2)}")
        if shown.group(1) == "metric" and shown.group(2) not in metric_names(root):
            problems.add(where, f"{requirement.id} names the metric {shown.group(2)}, which is not in contracts/metrics.yaml")
    elif amended:
        requirement.amended = f"ADR-{amended.group(1)}"
        if not list((root / ".docs/decisions").glob(f"{amended.group(1)}-*.md")):
            problems.add(where, f"{requirement.id} is amended by {requirement.amended}, which does not exist")
    else:
        problems.add(where, f"{requirement.id} has the unknown mark {{{mark}}}")


def metric_names(root):
    path = root / "contracts/metrics.yaml"
    return {family["name"] for family in yaml.safe_load(path.read_text(encoding="utf-8"))["families"]} if path.exists() else set()


def tracked_files(root):
    """Files of the tree, ignored ones left out; without git, all files."""
    listing = subprocess.run(["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                             capture_output=True, check=False)
    if listing.returncode == 0:
        names = {name for name in listing.stdout.decode("utf-8").split("\0") if name}
    else:
        names = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    return sorted(name for name in names if not name.startswith(SKIPPED) and (root / name).is_file())


def is_test(name):
    stem = pathlib.PurePosixPath(name).name
    return stem.endswith(("_test.cc", "_test.py", ".feature")) or (stem.startswith("test_") and stem.endswith(".py"))


def canonical(cited):
    cited = cited.replace("_", "-")
    return f"ORCH-{cited[4:]}" if cited.startswith("ORCH") and cited[4] != "-" else cited


def ids_in(text, in_name=False, known=()):
    ids = {canonical(cited) for cited in CITED.findall(text)}
    if in_name:
        ids |= {canonical(prefix + number) for prefix, more in FURTHER.findall(text) for number in more.strip("_").split("_")}
    rest = CITED.sub("", text)
    for letter, number in (SHORT_IN_NAME if in_name else SHORT).findall(rest):
        # Short names collide with ordinary words (F16, M1); only defined ones count.
        if f"{AREAS[letter]}-{letter}{number}" in known:
            ids.add(f"{AREAS[letter]}-{letter}{number}")
    return ids


def scan_tree(root, requirements, problems):
    all_tests = set()
    for name in tracked_files(root):
        if pathlib.PurePosixPath(name).suffix not in SOURCES and pathlib.PurePosixPath(name).name != "CMakeLists.txt":
            continue
        try:
            lines = (root / name).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, 1):
            if ODD_ID.search(line):
                problems.add(f"{name}:{number}", "an id with a hyphen that is not ASCII")
        if name.startswith("ci/tools/spec_extract"):  # speaks of ids as examples
            continue
        if name.endswith("CMakeLists.txt") or name == "ci/run_tests.py":
            all_tests |= {f"{name}::{label}" for line in lines for label in entry_labels(name, line)}
        if is_test(name):
            scan_test(name, lines, requirements, problems, all_tests)
        else:
            scan_code(name, lines, requirements, problems)
    add_evidence_map(root, requirements, all_tests, problems)


def note(requirements, problems, where, ids, kind, evidence):
    for id_ in ids:
        if id_ not in requirements:
            problems.add(where, f"{id_} is cited and not specified")
        else:
            getattr(requirements[id_], kind).add(evidence)


def scan_test(name, lines, requirements, problems, all_tests):
    above = []
    for number, line in enumerate(lines, 1):
        label = test_label(name, line)
        ids = set()
        if label:
            all_tests.add(f"{name}::{label}")
            ids = ids_in(label.split(".")[-1], in_name=True, known=requirements)
            for comment in above:
                ids |= ids_in(comment, known=requirements)
            note(requirements, problems, f"{name}:{number}", ids, "tests", f"{name}::{label}")
        for cited in CITED.findall(line):
            if canonical(cited) not in requirements:
                problems.add(f"{name}:{number}", f"{canonical(cited)} is cited and not specified")
        above = above + [line] if COMMENT.match(line) else []


def add_evidence_map(root, requirements, all_tests, problems):
    """.specs/evidence.yaml: what belongs to an id without naming it. Every pattern must match a test, every path exist."""
    path = root / ".specs/evidence.yaml"
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8")
    rows = re.findall(r"^([A-Z][A-Z0-9-]+):", text, re.MULTILINE)
    for id_ in sorted({id_ for id_ in rows if rows.count(id_) > 1}):  # YAML would take the last and say nothing
        problems.add(f".specs/evidence.yaml: {id_}", "has two rows")
    for id_, entry in yaml.safe_load(text).items():
        where = f".specs/evidence.yaml: {id_}"
        if id_ not in requirements or not set(entry) <= {"tests", "code", "contract"}:
            problems.add(where, "not specified, or keys other than tests, code, contract")
            continue
        for pattern in entry.get("tests", []):
            found = {test for test in all_tests if fnmatch.fnmatchcase(test.split("::", 1)[1], pattern)}
            if not found:
                problems.add(where, f"no test matches {pattern}")
            requirements[id_].tests |= found
        for kind in ("code", "contract"):
            for name in entry.get(kind, []):
                if not (root / name).exists():
                    problems.add(where, f"{name} does not exist")
                getattr(requirements[id_], kind).add(name)


def entry_labels(name, line):
    """Programs that are tests without test cases in their source: entries of ctest, steps of the test command."""
    if name.endswith(".py"):
        return [f"step.{step}" for step in STEP.findall(line)]
    match = CTEST.match(line)
    return [f"ctest.{match.group(1)}"] if match else []


def test_label(name, line):
    if name.endswith(".cc"):
        match = GTEST.match(line)
        return f"{match.group(1)}.{match.group(2)}" if match else None
    if name.endswith(".py"):
        match = PYTEST.match(line)
        return f"{pathlib.PurePosixPath(name).stem}.{match.group(1)}" if match else None
    match = SCENARIO.match(line)
    return f"scenario.{match.group(1)}" if match else None


def scan_code(name, lines, requirements, problems):
    kind = "contract" if name.startswith(("contracts/", "proto/")) and not name.endswith((".cc", ".h")) else "code"
    for number, line in enumerate(lines, 1):
        ids = {canonical(cited) for cited in CITED.findall(line)}
        for marker in ("//", "#"):
            if marker in line:
                ids |= ids_in(line.split(marker, 1)[1], known=requirements)
        note(requirements, problems, f"{name}:{number}", ids, kind, name)


def read_results(folder):
    """"Suite.name" and, for whole files, "stem" -> passed | failed | skipped; the worst of several."""
    order = {"passed": 0, "skipped": 1, "failed": 2}
    results = {}
    for path in pathlib.Path(folder).rglob("steps.json"):
        for step in json.loads(path.read_text(encoding="utf-8")):
            results[f"step.{step['step']}"] = "passed" if step["exit"] == 0 else "failed"
    for path in sorted(pathlib.Path(folder).rglob("*.xml")):
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            status = "passed"
            if case.find("failure") is not None or case.find("error") is not None or case.get("status") == "fail":
                status = "failed"
            elif case.find("skipped") is not None or case.get("status") in ("notrun", "disabled", "skipped"):
                status = "skipped"
            for key in result_keys(case.get("classname") or "", case.get("name") or ""):
                results[key] = max(results.get(key, "passed"), status, key=order.get)
    return results


def result_keys(classname, name):
    """gtest decorates parameterised tests: Prefix/Suite, Suite/0, name/param; pytest: folder.file.Class, name[param]; behave the rows
    of an outline: name -- @1.1."""
    suite = [part for part in classname.split("/") if not part.isdigit()]
    bare = name.split("/")[0].split("[")[0].split(" -- @")[0]
    yield f"scenario.{bare}"
    if classname == name:  # an entry of ctest
        yield f"ctest.{name}"
    yield f"{suite[-1]}.{bare}" if suite else name
    yield name
    for part in classname.split(".") if "." in classname else ():
        yield f"{part}.{bare}"


def ran(test, results):
    label = test.split("::", 1)[1]
    stem = pathlib.PurePosixPath(test.split("::", 1)[0]).stem
    return results.get(label) or (results.get(stem) if label.startswith(stem + ".") else None) or "not run"


def missing_evidence(requirement):
    missing = []
    if not requirement.contract and "contract" not in requirement.absent:
        missing.append("contract")
    if len(requirement.tests) < (1 if "failure" in requirement.absent else 2):
        missing.append("tests" if not requirement.tests else "second test")
    if not requirement.shown and "shown" not in requirement.absent:
        missing.append("metric or log")
    if not requirement.code:
        missing.append("code")
    return missing


def status_of(requirement, results):
    """(status, note)"""
    if requirement.retired:
        return "retired", ""
    missing = missing_evidence(requirement)
    outcomes = {ran(test, results) for test in requirement.tests}
    evidence = "missing: " + ", ".join(missing) if missing else "evidence complete"
    if requirement.tests and outcomes != {"passed"}:
        worst = next(state for state in ("failed", "skipped", "not run") if state in outcomes)
        evidence += {"failed": "; a test FAILED", "skipped": "; a test was skipped", "not run": "; test exists, not run here"}[worst]
    if requirement.amended:
        return "amended", f"{requirement.amended}; {evidence}"
    if not requirement.tests and not requirement.code:
        return "not started", "later" if requirement.later else ""
    return ("proven", "") if not missing and outcomes == {"passed"} else ("partial", evidence)


def requirement_files(requirements):
    by_source = {}
    for requirement in requirements.values():
        by_source.setdefault(requirement.source, {})[requirement.id] = {
            "level": requirement.level, "section": requirement.section, "text": requirement.text,
            "later": requirement.later, "amended": requirement.amended or None, "shown": sorted(requirement.shown),
            "not_applicable": requirement.absent, "contract": sorted(requirement.contract), "tests": sorted(requirement.tests),
            "code": sorted(requirement.code),
        }
    for source, rows in sorted(by_source.items()):
        stem = source.removeprefix(".specs/").removesuffix(".md").replace("/", "-")
        document = {"schema_version": 1, "source": source, "requirements": rows}
        text = f"# Generated from {source} and the tree by ci/tools/spec_extract.py; do not edit.\n"
        yield f".specs/requirements/{stem}.yaml", text + yaml.safe_dump(document, sort_keys=True, width=110, allow_unicode=True)


def compliance(requirements, results, of_run):
    rows = {id_: (requirement, *status_of(requirement, results)) for id_, requirement in requirements.items()}
    states = ("proven", "partial", "not started", "amended", "retired")
    counts = {state: sum(1 for _, status, _ in rows.values() if status == state) for state in states}
    lines = ["# Compliance", "", "Generated by `ci/tools/spec_extract.py` from `.specs/` and the tree; do not edit.", ""]
    lines += ["Of the run whose results were read." if of_run else
              "No run was read for this file, so nothing is `proven` here; `./llama-orch test` writes the table of its own run into its\nproof bundle. "
              "Names of tests and files per id: `requirements/`.", ""]
    lines += ["| " + " | ".join(states) + " | all |", "|" + "---|" * (len(states) + 1),
              "| " + " | ".join(str(counts[state]) for state in states) + f" | {len(rows)} |", ""]
    source = None
    for id_, (requirement, status, remark) in rows.items():
        if requirement.source != source:
            source = requirement.source
            lines += ["", f"## {source}", "", "| id | level | status | tests | code | remark |", "|---|---|---|---|---|---|"]
        lines.append(f"| {id_} | {requirement.level} | {status} | {len(requirement.tests)} | {len(requirement.code)} | {remark} |")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def write(path, text):
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def extract(root):
    problems = Problems()
    requirements = read_specs(root, problems)
    scan_tree(root, requirements, problems)
    return requirements, problems


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default=str(pathlib.Path(__file__).resolve().parents[2]))
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--results")
    parser.add_argument("--output")
    args = parser.parse_args()
    if bool(args.results) != bool(args.output):
        parser.error("--results and --output go together")
    root = pathlib.Path(args.root)
    requirements, problems = extract(root)
    for problem in problems:
        print(problem)
    if problems:
        sys.exit(f"spec_extract: {len(problems)} problems")
    if args.results:
        write(pathlib.Path(args.output), compliance(requirements, read_results(args.results), True))
        return
    wanted = dict(requirement_files(requirements))
    wanted[".specs/COMPLIANCE.md"] = compliance(requirements, {}, False)
    existing = {path.relative_to(root).as_posix() for path in (root / ".specs/requirements").glob("*.yaml")}
    stale = [name for name, text in wanted.items()
             if not (root / name).exists() or (root / name).read_text(encoding="utf-8") != text] + sorted(existing - set(wanted))
    if args.check:
        if stale:
            sys.exit(f"spec_extract: not up to date: {', '.join(stale)}; run ci/tools/spec_extract.py")
        return
    for name in existing - set(wanted):
        (root / name).unlink()
    for name, text in wanted.items():
        write(root / name, text)
    print(f"spec_extract: {len(requirements)} ids, {len(stale)} files changed")


if __name__ == "__main__":
    main()
