"""Verifies a proof bundle, build/proof/<run_id>/ (OC-PROOF-1001, OC-PROOF-1002). usage: verify_proof.py DIR

  manifest.sha256      lists every other file with its digest, and nothing else
  tests_executed.json  names of the tests that ran and passed; not empty
  skips.json           [{step, test, reason, in_scope}]; one in scope refuses the bundle
  steps.json           [{step, tier, exit, seconds}]; every exit 0
  provenance.json      run_id, tier, revision, finished, machine
  logs/, junit/        not empty
  pacts/, snapshots/, metrics/, seeds.txt   from tier full on, of a cluster that was judged; not empty
Prints every problem; exits 1 when there is one.
"""

import hashlib
import json
import pathlib
import re
import sys

MANIFEST = "manifest.sha256"
ALWAYS = ("tests_executed.json", "skips.json", "steps.json", "provenance.json", "logs", "junit")
FROM_FULL = ("pacts", "snapshots", "metrics", "seeds.txt")
TIERS_WITHOUT_CLUSTER = ("fast", "gpu")
PROVENANCE = ("run_id", "tier", "revision", "finished", "machine")


def read_json(folder, name, kind, problems):
    try:
        value = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problems.append(f"{name}: {error}")
        return kind()
    if not isinstance(value, kind):
        problems.append(f"{name}: must be a {kind.__name__}")
        return kind()
    return value


def check_manifest(folder, problems):
    listed = {}
    path = folder / MANIFEST
    if not path.is_file():
        problems.append(f"{MANIFEST}: missing")
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if not match or match.group(2) in listed:
            problems.append(f"{MANIFEST}:{number}: malformed or repeated")
        else:
            listed[match.group(2)] = match.group(1)
    present = {}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_symlink():
            problems.append(f"{name}: a link")
        elif file.is_file() and name != MANIFEST:
            present[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    problems += [f"{name}: not in the manifest" for name in present if name not in listed]
    problems += [f"{name}: in the manifest and missing" for name in listed if name not in present]
    problems += [f"{name}: differs from the manifest" for name in present if listed.get(name, present[name]) != present[name]]


def check_piece(folder, name, problems):
    path = folder / name
    if path.is_dir():
        empty = not any(file.is_file() and file.stat().st_size for file in path.rglob("*"))
    else:
        empty = not path.is_file() or path.stat().st_size == 0
    if empty:
        problems.append(f"{name}: missing or empty")


def check(folder):
    folder = pathlib.Path(folder)
    problems = []
    if not folder.is_dir():
        return [f"{folder}: no folder"]
    check_manifest(folder, problems)
    for name in ALWAYS:
        check_piece(folder, name, problems)
    provenance = read_json(folder, "provenance.json", dict, problems)
    problems += [f"provenance.json: {key} is missing" for key in PROVENANCE if not provenance.get(key)]
    if provenance.get("tier") not in TIERS_WITHOUT_CLUSTER:
        for name in FROM_FULL:
            check_piece(folder, name, problems)
    tests = read_json(folder, "tests_executed.json", list, problems)
    if not tests or not all(isinstance(test, str) and test for test in tests):
        problems.append("tests_executed.json: no test ran, or a name is empty")
    steps = read_json(folder, "steps.json", list, problems)
    if not steps:
        problems.append("steps.json: no step ran")
    for step in steps:
        if not isinstance(step, dict) or step.get("exit") != 0:
            problems.append(f"steps.json: {step.get('step') if isinstance(step, dict) else step} did not pass")
    for skip in read_json(folder, "skips.json", list, problems):
        if not isinstance(skip, dict) or not skip.get("test") or not skip.get("reason"):
            problems.append(f"skips.json: {skip} lacks its test or its reason")
        elif skip.get("in_scope") is not False:
            problems.append(f"skips.json: {skip['test']} was skipped in scope: {skip['reason']}")
    return problems


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: verify_proof.sh DIR")
    problems = check(sys.argv[1])
    for problem in problems:
        print(f"verify_proof: {problem}")
    print(f"verify_proof: {'REFUSED, ' + str(len(problems)) + ' problems' if problems else 'accepted'}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
