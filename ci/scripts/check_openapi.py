#!/usr/bin/env python3
"""Checks contracts/openapi/*.yaml (ruling: contracts are the single source of the API).

usage: check_openapi.py [ROOT]
Every reference resolves; every operation has a unique operationId and x-req-id with ids that the specification defines;
every response carries X-Correlation-Id; every JSON body has an example that its own schema accepts; the code enums equal
contracts/outcomes.yaml and x-outcomes agree with their status; x-limit agrees with request_limits.h. Exits 1 otherwise.
"""

import json
import pathlib
import re
import sys

import yaml

METHODS = ("get", "put", "post", "delete", "patch")


def load_yaml(path):
    return yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


class Documents:
    """The documents of a folder by name, with references resolved across them."""

    def __init__(self, folder):
        self.folder = folder
        self.by_name = {path.name: load_yaml(path) for path in sorted(folder.glob("*.yaml"))}

    def resolve(self, node, name):
        """(node, document name) behind any chain of references; KeyError when one leads nowhere."""
        hops = 0
        while isinstance(node, dict) and "$ref" in node:
            hops += 1
            if hops > 10:
                raise KeyError(f"{node['$ref']}: too many hops")
            target, _, pointer = node["$ref"].partition("#")
            name = target or name
            node = self.by_name[name]
            for part in pointer.strip("/").split("/"):
                node = node[part.replace("~1", "/").replace("~0", "~")]
        return node, name


def references(node, path=""):
    if isinstance(node, dict):
        if "$ref" in node:
            yield path, node
        for key, child in node.items():
            yield from references(child, f"{path}/{key}")
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from references(child, f"{path}/{index}")


TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict}


def violations(documents, schema, name, value, path="$"):
    """What of `value` the schema refuses; the part of OpenAPI 3.0 that these documents use."""
    schema, name = documents.resolve(schema, name)
    if value is None:
        return [] if schema.get("nullable") else [f"{path}: null"]
    out = []
    kind = schema.get("type")
    if kind and (not isinstance(value, TYPES[kind]) or (kind in ("integer", "number") and isinstance(value, bool))):
        return [f"{path}: is no {kind}"]
    if "enum" in schema and value not in schema["enum"]:
        out.append(f"{path}: {value!r} is none of {schema['enum']}")
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            out.append(f"{path}: does not match {schema['pattern']}")
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            out.append(f"{path}: length {len(value)}")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if value < schema.get("minimum", value) or value > schema.get("maximum", value):
            out.append(f"{path}: {value} out of range")
        if schema.get("exclusiveMinimum") and value == schema["minimum"]:
            out.append(f"{path}: {value} out of range")
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            out.append(f"{path}: {len(value)} items")
        for index, item in enumerate(value):
            out += violations(documents, schema.get("items", {}), name, item, f"{path}[{index}]")
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        out += [f"{path}: {key} is missing" for key in schema.get("required", []) if key not in value]
        if schema.get("additionalProperties") is False:
            out += [f"{path}: {key} is unknown" for key in value if key not in properties]
        for key, child in properties.items():
            if key in value:
                out += violations(documents, child, name, value[key], f"{path}.{key}")
    for part in schema.get("allOf", []):
        out += violations(documents, part, name, value, path)
    if "oneOf" in schema:
        fits = sum(1 for part in schema["oneOf"] if not violations(documents, part, name, value, path))
        if fits != 1:
            out.append(f"{path}: fits {fits} of oneOf")
    return out


def check_body(documents, name, where, content, statuses, errors):
    for media, body in content.items():
        examples = [body["example"]] if "example" in body else [item["value"] for item in body.get("examples", {}).values()]
        if not examples:
            errors.append(f"{where}: {media} has no example")
        for example in examples:
            if media == "application/json":
                errors += [f"{where}: example {text}" for text in violations(documents, body["schema"], name, example)]
                code = example.get("code") or (example.get("error") or {}).get("code") if isinstance(example, dict) else None
                if statuses is not None and code and code not in statuses:
                    errors.append(f"{where}: the example's code {code} is not in x-outcomes")


def check_operation(documents, name, where, operation, known_ids, outcomes, seen, errors):
    id_ = operation.get("operationId")
    if not id_ or id_ in seen:
        errors.append(f"{where}: operationId is missing or repeated")
    seen.add(id_)
    if not operation.get("x-req-id"):
        errors.append(f"{where}: x-req-id is missing")
    errors += [f"{where}: {req} is not specified" for req in operation.get("x-req-id", []) if req not in known_ids]
    if "requestBody" in operation:
        check_body(documents, name, f"{where} request", operation["requestBody"]["content"], None, errors)
    for event, schema in operation.get("x-sse-events", {}).items():
        if schema not in documents.by_name[name]["components"]["schemas"]:
            errors.append(f"{where}: x-sse-events: {event} names the unknown schema {schema}")
    for status, response in operation.get("responses", {}).items():
        at = f"{where} {status}"
        response, owner = documents.resolve(response, name)
        header, _ = documents.resolve(response.get("headers", {}).get("X-Correlation-Id", {}), owner)
        if not header.get("required"):
            errors.append(f"{at}: X-Correlation-Id must be a required header")
        if status == "429":
            for needed in ("Retry-After", "X-Backoff-Ms"):
                if not documents.resolve(response["headers"].get(needed, {}), owner)[0].get("required"):
                    errors.append(f"{at}: {needed} must be a required header")
        codes = response.get("x-outcomes")
        failing = status == "default" or int(status) >= 400
        if failing and not codes:
            errors.append(f"{at}: x-outcomes is missing")
        for code in codes or []:
            if code not in outcomes or outcomes[code]["internal"]:
                errors.append(f"{at}: {code} is no outcome that leaves the cluster")
            elif status != "default" and outcomes[code]["http"] != int(status):
                errors.append(f"{at}: {code} has the status {outcomes[code]['http']}")
        check_body(documents, owner, at, response.get("content", {}), codes, errors)


def check_enums(documents, outcomes, errors):
    expected = {
        ("common.yaml", "OutcomeCode"): [code for code, row in outcomes.items() if not row["internal"]],
        ("data.yaml", "StreamCode"): [code for code, row in outcomes.items() if row["sse"] and not row["internal"]],
    }
    for (name, schema), codes in expected.items():
        enum = documents.by_name[name]["components"]["schemas"][schema]["enum"]
        if enum != codes:
            errors.append(f"{name}: {schema} must be {codes}")


def check_limits(documents, root, errors):
    header = root / "orchestratord/shell/request_limits.h"
    if not header.exists():
        return
    constants = {}
    for constant, text in re.findall(r"constexpr [\w:]+ (k\w+) = ([^;]+);", header.read_text(encoding="utf-8")):
        text = text.replace("'", "")
        if re.fullmatch(r"[0-9a-fA-Fx.* ]+", text):
            factors = [float(part) if "." in part else int(part, 0) for part in text.split("*")]
            constants[constant] = factors[0]
            for factor in factors[1:]:
                constants[constant] *= factor
    for name, document in documents.by_name.items():
        for path, node in limited(document):
            limits = [node[key] for key in ("maximum", "maxLength", "maxItems", "maxProperties") if key in node]
            if constants.get(node["x-limit"]) not in limits:
                errors.append(f"{name}{path}: {node['x-limit']} is {constants.get(node['x-limit'])}, the contract says {limits}")


def limited(node, path=""):
    if isinstance(node, dict):
        if "x-limit" in node:
            yield path, node
        for key, child in node.items():
            yield from limited(child, f"{path}/{key}")
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from limited(child, f"{path}/{index}")


def specified_ids(root):
    pattern = re.compile(r"^- ((?:ORCH|OC)-[A-Z0-9-]+)\s", re.MULTILINE)
    return {id_ for path in (root / ".specs").rglob("*.md") for id_ in pattern.findall(path.read_text(encoding="utf-8"))}


def check(root):
    root = pathlib.Path(root)
    errors, seen = [], set()
    documents = Documents(root / "contracts/openapi")
    rows = load_yaml(root / "contracts/outcomes.yaml")["outcomes"]
    outcomes = {row["code"]: row for row in rows}
    known_ids = specified_ids(root)
    for name, document in documents.by_name.items():
        if document.get("openapi") != "3.0.3" or not document.get("info", {}).get("version"):
            errors.append(f"{name}: openapi must be 3.0.3 and info.version be set")
        for path, node in references(document):
            try:
                documents.resolve(node, name)
            except (KeyError, TypeError):
                errors.append(f"{name}{path}: {node['$ref']} leads nowhere")
    if errors:
        return errors
    for name, document in documents.by_name.items():
        for path, item in document["paths"].items():
            for method in METHODS:
                if method in item:
                    check_operation(documents, name, f"{name} {method} {path}", item[method], known_ids, outcomes, seen, errors)
    check_enums(documents, outcomes, errors)
    check_limits(documents, root, errors)
    return errors


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2]
    errors = check(root)
    for error in errors:
        print(error)
    print(f"check_openapi: {'FAIL, ' + str(len(errors)) + ' problems' if errors else 'ok'}")
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
