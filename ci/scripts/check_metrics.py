#!/usr/bin/env python3
"""Holds a live /metrics page against contracts/metrics.yaml (OC-METRICS-7101, 7102).

usage: check_metrics.py SOURCE --process orchestratord|pool-managerd [--require NAME]... [--contract FILE]
SOURCE is a file, an http URL or - for standard input.
Verifies names, types, exact label sets, closed label values, exact histogram buckets and their arithmetic, and
cardinality. A family that is reserved, or that another process exports, must be absent; one that appears at start, and
each --require, must have a series. Prints every violation; exits 1 when there is one.
"""

import argparse
import math
import pathlib
import re
import sys
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "ci/tools"))

import gen_metrics  # noqa: E402: the loader that resolves the contract's named value sets

SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? +(\S+)(?: +-?[0-9]+)?$")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\["\\n])*)"(?:,|$)')


def parse_labels(text):
    """Ordered (name, value) pairs; None when malformed."""
    pairs, at = [], 0
    while at < len(text):
        match = LABEL.match(text, at)
        if not match:
            return None
        pairs.append((match.group(1), match.group(2)))
        at = match.end()
    return pairs


def parse_number(text):
    try:
        return {"+Inf": math.inf, "-Inf": -math.inf, "NaN": math.nan}.get(text) if text in ("+Inf", "-Inf", "NaN") else float(text)
    except ValueError:
        return None


class Page:
    """The text format, parsed strictly: types and helps by family, samples as (name, labels, value)."""

    def __init__(self, text):
        self.types, self.helps, self.samples, self.errors = {}, {}, [], []
        if text and not text.endswith("\n"):
            self.errors.append("the page does not end in a newline")
        for number, line in enumerate(text.splitlines(), 1):
            self.take(number, line)

    def take(self, number, line):
        if not line:
            return
        if line.startswith("#"):
            words = line.split(" ", 3)
            if len(words) >= 3 and words[1] in ("HELP", "TYPE"):
                store = self.helps if words[1] == "HELP" else self.types
                if words[2] in store:
                    self.errors.append(f"line {number}: second {words[1]} of {words[2]}")
                store[words[2]] = words[3] if len(words) > 3 else ""
            return
        match = SAMPLE.match(line)
        labels = parse_labels(match.group(2) or "") if match else None
        value = parse_number(match.group(3)) if match else None
        if labels is None or value is None:
            self.errors.append(f"line {number}: not a sample: {line[:120]}")
            return
        names = [name for name, _ in labels]
        if len(set(names)) != len(names):
            self.errors.append(f"line {number}: a label is given twice")
        self.samples.append((match.group(1), dict(labels), value))


def family_of(page, name):
    """Histogram samples belong to the family without their suffix."""
    for suffix in ("_bucket", "_sum", "_count"):
        base = name[: -len(suffix)]
        if name.endswith(suffix) and page.types.get(base) == "histogram":
            return base, suffix
    return name, ""


def check(text, contract, process, require=()):
    page = Page(text)
    errors = list(page.errors)
    families = {family["name"]: family for family in contract["families"]}
    series = {}
    for name, labels, value in page.samples:
        base, suffix = family_of(page, name)
        series.setdefault(base, []).append((suffix, labels, value))
    for name in sorted(set(page.types) | set(page.helps) | set(series)):
        family = families.get(name)
        if family is None:
            errors.append(f"{name}: not in the contract")
        elif not family["built"]:
            errors.append(f"{name}: reserved in the contract, must not be exported yet")
        elif family["process"] != process:
            errors.append(f"{name}: exported by {family['process']}, not by {process}")
        else:
            errors += check_family(page, family, contract, series.get(name, []))
    for family in contract["families"]:
        due = family["process"] == process and family["built"] and family["appears"] == "start"
        if (due or family["name"] in require) and not series.get(family["name"]):
            errors.append(f"{family['name']}: has no series")
    errors += [f"{name}: required by the caller but not in the contract" for name in require if name not in families]
    errors += check_label_budgets(contract, series)
    return errors


def check_family(page, family, contract, samples):
    name, errors = family["name"], []
    if page.types.get(name) != family["type"]:
        errors.append(f"{name}: TYPE is {page.types.get(name, 'missing')}, must be {family['type']}")
    if page.helps.get(name) != family["help"]:
        errors.append(f"{name}: HELP must be \"{family['help']}\", is \"{page.helps.get(name, '')}\"")
    seen = set()
    for suffix, labels, value in samples:
        errors += check_sample(family, contract, suffix, labels, value)
        key = (suffix, tuple(sorted(labels.items())))
        if key in seen:
            errors.append(f"{name}: the series {labels} is given twice")
        seen.add(key)
    groups = {tuple(sorted((k, v) for k, v in labels.items() if k != "le")) for _, labels, _ in samples}
    if len(groups) > family["series_max"]:
        errors.append(f"{name}: {len(groups)} series, at most {family['series_max']}")
    if family["type"] == "histogram":
        for group in sorted(groups):
            errors += check_histogram(family, samples, group)
    return errors


def check_sample(family, contract, suffix, labels, value):
    name, errors = family["name"], []
    expected = set(family["labels"])
    if suffix == "_bucket":
        expected.add("le")
    for label, rule in contract["conditional_labels"].items():
        if "engine" in family["labels"] and labels.get("engine") == rule["engine"]:
            expected.add(label)
    if set(labels) != expected:
        errors.append(f"{name}: labels are {sorted(labels)}, must be {sorted(expected)}")
    for label, allowed in family["values"].items():
        # An empty value says "not known here"; "other" is where a capped label overflows.
        if label in labels and labels[label] not in ("", "other") and labels[label] not in allowed:
            errors.append(f"{name}: {label}=\"{labels[label]}\" is none of {allowed}")
    if math.isnan(value) or (family["type"] != "gauge" and value < 0):
        errors.append(f"{name}: value {value} of a {family['type']}")
    return errors


def check_histogram(family, samples, group):
    name, errors = family["name"], []
    of_group = [(suffix, labels, value) for suffix, labels, value in samples
                if tuple(sorted((k, v) for k, v in labels.items() if k != "le")) == group]
    buckets = [(parse_number(labels.get("le", "")), value) for suffix, labels, value in of_group if suffix == "_bucket"]
    bounds = [bound for bound, _ in buckets]
    if bounds != [float(bound) for bound in family["buckets"]] + [math.inf]:
        errors.append(f"{name}: buckets {bounds}, must be {family['buckets']} and +Inf, in this order")
        return errors
    counts = [value for _, value in buckets]
    if counts != sorted(counts):
        errors.append(f"{name}: bucket counts fall: {counts}")
    totals = [value for suffix, _, value in of_group if suffix == "_count"]
    sums = [value for suffix, _, value in of_group if suffix == "_sum"]
    if len(totals) != 1 or len(sums) != 1 or totals[0] != counts[-1]:
        errors.append(f"{name}: _count must be given once and equal the +Inf bucket, _sum once")
    return errors


def check_label_budgets(contract, series):
    values, errors = {}, []
    for samples in series.values():
        for _, labels, _ in samples:
            for label, value in labels.items():
                values.setdefault(label, set()).add(value)
    budgets = {**contract["labels"], **contract["conditional_labels"]}
    for label, found in sorted(values.items()):
        # Two more than the budget: the empty value and "other".
        if label in budgets and len(found - {"", "other"}) > budgets[label]["max"]:
            errors.append(f"label {label}: {len(found)} values, at most {budgets[label]['max']}")
    return errors


def read(source):
    if source == "-":
        return sys.stdin.read()
    if source.startswith(("http://", "https://")):
        with urllib.request.urlopen(source, timeout=10) as reply:
            return reply.read().decode("utf-8")
    return pathlib.Path(source).read_text(encoding="utf-8")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("--process", required=True, choices=gen_metrics.PROCESSES)
    parser.add_argument("--require", action="append", default=[])
    parser.add_argument("--contract", default=str(ROOT / "contracts/metrics.yaml"))
    args = parser.parse_args()
    errors = check(read(args.source), gen_metrics.load(args.contract), args.process, args.require)
    for error in errors:
        print(error)
    print(f"check_metrics: {args.process}: {'FAIL, ' + str(len(errors)) + ' violations' if errors else 'ok'}")
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
