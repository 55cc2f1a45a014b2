"""Generates the metric tables from contracts/metrics.yaml.

usage: gen_metrics.py metrics.yaml --header FILE     C++ into the build tree
       gen_metrics.py metrics.yaml --spec FILE       rewrites the tables between the markers of the specification
       gen_metrics.py metrics.yaml --check FILE      exits 1 when those tables differ
Files are written only when their content changes.
"""

import argparse
import json
import pathlib
import re
import sys

import yaml

TYPES = ("counter", "gauge", "histogram")
PROCESSES = ("orchestratord", "pool-managerd")
REQUIRED = {"name", "type", "labels", "process", "built", "appears", "series_max", "help"}
BEGIN, END = "<!-- generated tables: begin -->", "<!-- generated tables: end -->"


def fail(message):
    sys.exit(f"gen_metrics.py: {message}")


def load(path):
    """The contract with named value sets resolved against outcomes.yaml beside it."""
    path = pathlib.Path(path)
    contract = yaml.safe_load(path.read_text(encoding="utf-8"))
    outcomes = yaml.safe_load((path.parent / "outcomes.yaml").read_text(encoding="utf-8"))["outcomes"]
    named = {
        "outcomes": [row["code"] for row in outcomes if not row["internal"]],
        "internal_outcomes": [row["code"] for row in outcomes if row["internal"]],
        "terminals": ["end"] + [row["code"] for row in outcomes if row["sse"]],
    }
    if set(contract) != {"labels", "conditional_labels", "families"}:
        fail("top level must be labels, conditional_labels, families")
    names = set()
    for family in contract["families"]:
        check_family(contract, family, names)
        values = {}
        for label in family["labels"]:
            of_family = family.get("values", {}).get(label)
            of_label = contract["labels"][label].get("values")
            chosen = of_family if of_family is not None else of_label
            if chosen is not None:
                values[label] = named[chosen] if isinstance(chosen, str) else chosen
        family["values"] = values
    return contract


def check_family(contract, family, names):
    name = family.get("name", "?")
    unknown = set(family) - REQUIRED - {"buckets", "values"}
    if not REQUIRED <= set(family) or unknown:
        fail(f"{name}: missing {sorted(REQUIRED - set(family))}, unknown {sorted(unknown)}")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in names:
        fail(f"{name}: bad or repeated name")
    names.add(name)
    if family["type"] not in TYPES or family["process"] not in PROCESSES or family["appears"] not in ("start", "use"):
        fail(f"{name}: bad type, process or appears")
    if (family["type"] == "counter") != name.endswith("_total"):
        fail(f"{name}: counters and only counters end in _total")
    if (family["type"] == "histogram") != ("buckets" in family):
        fail(f"{name}: histograms and only histograms have buckets")
    if family.get("buckets", []) != sorted(set(family.get("buckets", []))):
        fail(f"{name}: buckets must rise")
    for label in family["labels"]:
        if label not in contract["labels"]:
            fail(f"{name}: label {label} has no cardinality")
    if not set(family.get("values", {})) <= set(family["labels"]):
        fail(f"{name}: values for a label it does not carry")


def cpp_list(items):
    return ", ".join(json.dumps(item) if isinstance(item, str) else f"{item:g}" for item in items)


def header(contract):
    families = [family for family in contract["families"]]
    arrays = []
    for family in families:
        if family["labels"]:
            arrays.append(f"inline constexpr std::array<std::string_view, {len(family['labels'])}> k_{family['name']}_labels{{{cpp_list(family['labels'])}}};")
        if "buckets" in family:
            arrays.append(f"inline constexpr std::array<double, {len(family['buckets'])}> k_{family['name']}_buckets{{{cpp_list(family['buckets'])}}};")
    table = []
    for family in families:
        labels = f"detail::k_{family['name']}_labels" if family["labels"] else "{}"
        buckets = f"detail::k_{family['name']}_buckets" if "buckets" in family else "{}"
        process = family["process"].replace("-", "_")
        table.append(f'    {{Family::{family["name"]}, "{family["name"]}", Type::{family["type"]}, Process::{process}, '
                     f'{str(family["built"]).lower()},\n     {labels}, {buckets}, {family["series_max"]}, {json.dumps(family["help"])}}},')
    enum = ",\n".join(f"  {family['name']}" for family in families)
    new_line = "\n"
    return f"""// Generated from contracts/metrics.yaml by ci/tools/gen_metrics.py.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace orch::metrics {{

enum class Type : std::uint8_t {{ counter, gauge, histogram }};
enum class Process : std::uint8_t {{ orchestratord, pool_managerd }};

enum class Family : std::uint8_t {{
{enum}
}};

// Label values of a series are given in the order of `labels`.
struct FamilyRow {{
  Family family;
  std::string_view name;
  Type type;
  Process process;
  bool built;  // false: reserved, must not be exported
  std::span<const std::string_view> labels;
  std::span<const double> buckets;  // upper bounds without +Inf; histograms only
  std::size_t series_max;           // further label values become "other"
  std::string_view help;
}};

namespace detail {{
{new_line.join(arrays)}
}}  // namespace detail

inline constexpr std::array<FamilyRow, {len(families)}> kFamilies{{{{
{new_line.join(table)}
}}}};

constexpr const FamilyRow& family_row(Family family) {{ return kFamilies[static_cast<std::size_t>(family)]; }}

}}  // namespace orch::metrics
"""


def tables(contract):
    lines = [BEGIN, "", "Generated from `contracts/metrics.yaml` by `ci/tools/gen_metrics.py`; do not edit between the markers.", "",
             "| name | type | labels | exported by | buckets | series at most |", "|---|---|---|---|---|---|"]
    for family in contract["families"]:
        labels = ", ".join(family["labels"]) or "none"
        where = family["process"] if family["built"] else f"{family['process']}, not built"
        buckets = ", ".join(str(bucket) for bucket in family.get("buckets", [])) or "-"
        lines.append(f"| `{family['name']}` | {family['type']} | {labels} | {where} | {buckets} | {family['series_max']} |")
    lines += ["", "| label | values at most | closed set |", "|---|---|---|"]
    for name, label in contract["labels"].items():
        lines.append(f"| `{name}` | {label['max']} | {', '.join(label.get('values', [])) or '-'} |")
    exempt = [family["name"] for family in contract["families"] if "engine" not in family["labels"]]
    lines += ["", "Families without the label `engine`: " + ", ".join(f"`{name}`" for name in exempt) + ".", "", END]
    return "\n".join(lines)


def with_tables(text, contract):
    begin, end = text.find(BEGIN), text.find(END)
    if begin < 0 or end < begin:
        fail("the specification lacks the markers of the generated tables")
    return text[:begin] + tables(contract) + text[end + len(END):]


def write(target, text):
    path = pathlib.Path(target)
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("metrics")
    parser.add_argument("--header")
    parser.add_argument("--spec")
    parser.add_argument("--check")
    args = parser.parse_args()
    contract = load(args.metrics)
    if args.header:
        write(args.header, header(contract))
    if args.spec:
        write(args.spec, with_tables(pathlib.Path(args.spec).read_text(encoding="utf-8"), contract))
    if args.check:
        text = pathlib.Path(args.check).read_text(encoding="utf-8")
        if with_tables(text, contract) != text:
            fail(f"{args.check} is not up to date; run ci/tools/gen_metrics.py contracts/metrics.yaml --spec {args.check}")


if __name__ == "__main__":
    main()
