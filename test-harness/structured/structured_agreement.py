#!/usr/bin/env python3
"""Texts written under our token masks, judged by others (OC-GRAMMAR-1040): schemas by the package jsonschema, regular expressions by
Python's re, grammars and schemas by what llama.cpp writes under them (with --model).

Each of the generated schemas must be accepted; each text drawn at random under its masks must be valid and complete; documents that
another maker made must be in the language, damaged ones must not. Wrong masks (--mutant) must be seen. Exit 0 iff all of it holds.

usage: structured_agreement.py --tool build/.../constraint_tool [--model FILE.gguf] [--schemas 1000] [--seed 1] [--mutant NAME]
"""
import argparse
import datetime
import functools
import ipaddress
import json
import random
import re
import subprocess
import sys
import uuid

import jsonschema

import schema_corpus

MUTANTS = ["end_anywhere", "stale", "first_byte"]


def checker():
    out = jsonschema.FormatChecker(formats=[])
    judges = {"date": lambda text: datetime.date.fromisoformat(text) is not None,
              "time": lambda text: datetime.time.fromisoformat(text).tzinfo is not None,
              "date-time": lambda text: datetime.datetime.fromisoformat(text).tzinfo is not None,
              "uuid": lambda text: str(uuid.UUID(text)) == text,
              "ipv4": lambda text: ipaddress.IPv4Address(text) is not None}
    for name, judge in judges.items():
        out.checks(name, ValueError)(lambda value, judge=judge: not isinstance(value, str) or judge(value))
    return out


class Tool:
    def __init__(self, path, model=None):
        self.process = subprocess.Popen([path, *([model] if model else [])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"the tool ended on {json.dumps(request)[:2000]}")
        return json.loads(line)


def refuse_constant(name):
    raise ValueError(name)


@functools.lru_cache(maxsize=4)
def validator_of(schema_text):
    return jsonschema.Draft202012Validator(json.loads(schema_text), format_checker=checker())


def problem_of(schema, text):
    """None when the bytes are a valid document of the schema."""
    try:
        value = json.loads(text.decode("utf-8"), parse_constant=refuse_constant)
        validator_of(json.dumps(schema)).validate(value)
    except (ValueError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"
    except jsonschema.ValidationError as error:
        return f"invalid: {error.message[:200]} at {list(error.path)}"
    return None


def judge_walks(schema, answer, counts):
    wrong = []
    for walk in answer["walks"]:
        text = bytes.fromhex(walk["hex"])
        problem = problem_of(schema, text)
        counts["texts"] += 1
        counts["bytes"] += len(text)
        if problem is None and not walk["complete"]:
            problem = "the automaton does not call it complete"
        if problem is None and not walk["replayed"]:
            problem = "replayed tokens gave another mask"
        if problem:
            wrong.append((text, problem))
    return wrong


def documents_of(corpus, schema, rng):
    """(text, expected) made without the product."""
    out = []
    for _ in range(3):
        try:
            value = corpus.document(schema)
        except schema_corpus.Unlucky:
            continue
        text = schema_corpus.spell(rng, value).encode("utf-8")
        if problem_of(schema, text) or schema_corpus.has_exponent(value):
            continue
        out.append((text, True))
        damaged = bytearray(text)
        damaged[rng.randrange(len(damaged))] = rng.choice(b'{}[]",:x0-\\\x00\xff')
        if problem_of(schema, bytes(damaged)):
            out.append((bytes(damaged), False))
    return out


def check_schemas(tool, count, seed, walks, mutant, limit_shown=5):
    rng = random.Random(seed)
    counts = {"schemas": 0, "texts": 0, "bytes": 0, "documents": 0, "damaged": 0}
    wrong = []
    for number in range(count):
        corpus = schema_corpus.Corpus(f"{seed}-{number}")
        schema = corpus.schema()
        request = {"kind": "json_schema", "text": json.dumps(schema, ensure_ascii=False)}
        documents = [] if mutant else documents_of(corpus, schema, rng)
        answer = tool.ask(**request, walks=walks, seed=seed * 1_000_003 + number, tokens=80, mutant=mutant,
                          match=[text.hex() for text, _ in documents])
        if "refused" in answer:
            wrong.append((schema, "", f"refused: {answer['refused']}"))
            continue
        counts["schemas"] += 1
        wrong += [(schema, *each) for each in judge_walks(schema, answer, counts)]
        for (text, expected), got in zip(documents, answer.get("match", [])):
            counts["documents" if expected else "damaged"] += 1
            if got != expected:
                wrong.append((schema, text, "a valid document is not in the language" if expected else "a damaged document is in the language"))
    for schema, text, problem in wrong[:limit_shown if not mutant else 1]:
        print(f"WRONG {problem}\n  schema {json.dumps(schema, ensure_ascii=False)[:1000]}\n  text   {text!r}"[:3000])
    print(f"schemas {counts['schemas']}/{count}, texts drawn {counts['texts']} ({counts['bytes']} bytes), documents of another maker "
          f"{counts['documents']}, damaged ones {counts['damaged']}, wrong {len(wrong)}" + (f" [mutant {mutant}]" if mutant else ""), flush=True)
    return len(wrong)


# --- regular expressions ---

ATOMS = ["a", "b", "c", ".", "[ab]", "[^ab]", "\\d", "\\w", "\\s", "é", "[a-c]", "\\.", "\\n", "[\\d-]", "\\x41", "[^\\w]", "-", "1", "\\D", "\\S"]


# Python's re tries every way to split a text among nested repetitions: exponential in the length, so it judges short texts there.
REPEATED_GROUP = re.compile(r"\)(?:\*|\+|\{0,\})")
REPEATED_LENGTH_MAX = 16


def make_regex(rng, depth):
    out = []
    for _ in range(rng.randrange(1, 4)):
        if depth and rng.random() < 0.4:
            atom = rng.choice(["(", "(?:"]) + "|".join(make_regex(rng, depth - 1) for _ in range(rng.randrange(1, 4))) + ")"
        else:
            atom = rng.choice(ATOMS)
        out.append(atom + rng.choice(["", "", "", "*", "+", "?", "{2}", "{1,3}", "{0,}", "*?", "+?"]))
    return "".join(out)


def check_regexes(tool, count, seed):
    rng = random.Random(seed)
    alphabet = "aabbc.é1-\nA \t"
    compared = wrong = drawn = unjudged = 0
    for _ in range(count):
        pattern = make_regex(rng, 2)
        repeated = REPEATED_GROUP.search(pattern) is not None
        compiled = re.compile(pattern, re.ASCII)
        texts = ["".join(rng.choice(alphabet) for _ in range(rng.randrange(0, 7))) for _ in range(60)]
        answer = tool.ask(kind="regex", text=pattern, walks=4, seed=rng.randrange(1 << 30), tokens=20, match=[t.encode().hex() for t in texts])
        if "refused" in answer:
            print(f"WRONG refused {pattern!r}: {answer['refused']}")
            wrong += 1
            continue
        for text, got in zip(texts, answer["match"]):
            compared += 1
            if got != (compiled.fullmatch(text) is not None):
                wrong += 1
                print(f"WRONG {pattern!r} on {text!r}: ours {got}")
        for walk in answer["walks"]:
            text = bytes.fromhex(walk["hex"]).decode("utf-8")
            if repeated and len(text) > REPEATED_LENGTH_MAX:
                unjudged += 1
                continue
            drawn += 1
            if compiled.fullmatch(text) is None:
                wrong += 1
                print(f"WRONG {pattern!r} wrote {bytes.fromhex(walk['hex'])!r}")
    print(f"regular expressions {count}, texts compared {compared}, drawn {drawn}, too long to judge {unjudged}, wrong {wrong}", flush=True)
    return wrong


# --- llama.cpp ---

GRAMMARS = [
    'root ::= "yes" | "no" | "maybe " [0-9]+',
    'root ::= item+\nitem ::= "- " [a-z]+ "\\n"',
    'root ::= expr\nexpr ::= term (" + " term)*\nterm ::= [0-9]{1,3} | "(" expr ")"',
    'root ::= "{" ws "\\"a\\":" ws [0-9]{1,4} ws "}"\nws ::= [ \\n]?',
    'root ::= [A-Z] [a-z]{2,8} (" " [A-Z] [a-z]{2,8}){1,2} "."',
    'root ::= ([^\\x00-\\x1F"] | "\\n"){5,30} "!"',
]
LLAMA_SCHEMAS = [
    {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 120}},
     "required": ["name", "age"], "additionalProperties": False},
    {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "minItems": 2, "maxItems": 4},
    {"anyOf": [{"type": "boolean"}, {"type": "integer"}, {"type": "null"}]},
]


def check_llama(tool, model):
    """What llama.cpp writes under a grammar must be in our language of it, or the beginning of a text of it where it ran out of tokens."""
    import http.client
    import urllib.parse

    import xllamacpp
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = 512
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.warmup = False
    server = xllamacpp.Server(params)
    address = urllib.parse.urlparse(server.listening_address)
    connection = http.client.HTTPConnection(address.hostname, address.port)
    wrong = complete = 0
    for kind, text in [("gbnf", g) for g in GRAMMARS] + [("json_schema", json.dumps(s)) for s in LLAMA_SCHEMAS]:
        for seed in range(4):
            body = {"prompt": "Answer:", "n_predict": 64, "temperature": 1.5, "seed": seed}
            body |= {"grammar": text} if kind == "gbnf" else {"json_schema": json.loads(text)}
            connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
            reply = json.loads(connection.getresponse().read())
            written = reply["content"]
            if reply.get("stop_type") != "eos":
                continue
            complete += 1
            if kind == "json_schema":  # its blanks are others
                written = json.dumps(json.loads(written), ensure_ascii=False, separators=(",", ":"))
            if tool.ask(kind=kind, text=text, match=[written.encode().hex()]).get("match") != [True]:
                wrong += 1
                print(f"WRONG llama.cpp wrote {written!r} under {text!r}")
    print(f"texts written by llama.cpp under {len(GRAMMARS)} grammars and {len(LLAMA_SCHEMAS)} schemas: {complete} complete, not ours {wrong}", flush=True)
    return wrong + (complete == 0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", required=True)
    parser.add_argument("--model")
    parser.add_argument("--schemas", type=int, default=1000)
    parser.add_argument("--walks", type=int, default=4)
    parser.add_argument("--regexes", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutant", choices=MUTANTS)
    arguments = parser.parse_args()
    tool = Tool(arguments.tool)
    if arguments.mutant:
        return 0 if check_schemas(tool, 60, arguments.seed, 2, arguments.mutant) == 0 else 1
    wrong = check_schemas(tool, arguments.schemas, arguments.seed, arguments.walks, "")
    wrong += check_regexes(tool, arguments.regexes, arguments.seed)
    for mutant in MUTANTS:
        if check_schemas(tool, 60, arguments.seed, 2, mutant) == 0:
            wrong += 1
            print(f"WRONG the mutant {mutant} was not seen")
    if arguments.model:
        real = Tool(arguments.tool, arguments.model)
        wrong += check_schemas(real, max(1, arguments.schemas // 20), arguments.seed + 1, 2, "")
        wrong += check_llama(real, arguments.model)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
