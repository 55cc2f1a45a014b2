"""Generates the outcome enum and its tables from contracts/outcomes.yaml.

usage: gen_outcomes.py outcomes.yaml (--header FILE | --markdown FILE)
Writes only when the content changed, so that a second run rebuilds nothing.
"""

import argparse
import pathlib
import re
import sys

import yaml

GRPC_CODES = {
    "CANCELLED": 1, "INVALID_ARGUMENT": 3, "DEADLINE_EXCEEDED": 4, "NOT_FOUND": 5, "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7, "RESOURCE_EXHAUSTED": 8, "FAILED_PRECONDITION": 9, "UNIMPLEMENTED": 12, "INTERNAL": 13,
    "UNAVAILABLE": 14, "UNAUTHENTICATED": 16,
}
KEYS = {"code", "http", "grpc", "retriable", "sse", "internal", "text"}


def load(path):
    rows = yaml.safe_load(pathlib.Path(path).read_text(encoding="utf-8"))["outcomes"]
    seen = set()
    for row in rows:
        if set(row) != KEYS:
            sys.exit(f"{path}: {row.get('code')}: keys must be exactly {sorted(KEYS)}")
        if not re.fullmatch(r"[A-Z][A-Z_]*", row["code"]) or row["code"] in seen:
            sys.exit(f"{path}: bad or repeated code {row['code']}")
        if row["grpc"] not in GRPC_CODES or not 400 <= row["http"] <= 599:
            sys.exit(f"{path}: {row['code']}: unknown grpc code or http status out of 400..599")
        seen.add(row["code"])
    return rows


def header(rows):
    enum = ",\n".join(f"  {r['code']}" for r in rows)
    table = ",\n".join(
        f'    {{Outcome::{r["code"]}, "{r["code"]}", {r["http"]}, {GRPC_CODES[r["grpc"]]}, '
        f'{str(r["retriable"]).lower()}, {str(r["sse"]).lower()}, {str(r["internal"]).lower()}, "{r["text"]}"}}'
        for r in rows)
    return f"""// Generated from contracts/outcomes.yaml by ci/tools/gen_outcomes.py.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace orch {{

enum class Outcome : std::uint8_t {{
{enum}
}};

struct OutcomeRow {{
  Outcome outcome;
  std::string_view code;
  int http_status;
  int grpc_code;
  bool retriable;
  bool sse;
  bool internal;
  std::string_view text;
}};

inline constexpr std::array<OutcomeRow, {len(rows)}> kOutcomes{{{{
{table}
}}}};

constexpr const OutcomeRow& outcome_row(Outcome outcome) {{ return kOutcomes[static_cast<std::size_t>(outcome)]; }}

constexpr std::optional<Outcome> outcome_from_code(std::string_view code) {{
  for (const OutcomeRow& row : kOutcomes) {{
    if (row.code == code) return row.outcome;
  }}
  return std::nullopt;
}}

}}  // namespace orch
"""


def markdown(rows):
    lines = ["# Outcomes", "", "Generated from `contracts/outcomes.yaml`; do not edit.", "",
             "| code | HTTP | gRPC | retriable | as SSE `error` | leaves the cluster | meaning |",
             "|---|---|---|---|---|---|---|"]
    yes = {True: "yes", False: "no"}
    for r in rows:
        lines.append(f"| `{r['code']}` | {r['http']} | {r['grpc']} | {yes[r['retriable']]} | {yes[r['sse']]} | "
                     f"{yes[not r['internal']]} | {r['text']} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("outcomes")
    parser.add_argument("--header")
    parser.add_argument("--markdown")
    args = parser.parse_args()
    rows = load(args.outcomes)
    for target, text in ((args.header, header(rows)), (args.markdown, markdown(rows))):
        if target:
            path = pathlib.Path(target)
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")


main()
