"""Generates configuration structs, strict parsers, documentation and JSON Schema from contracts/config-schema/*.yaml.

usage: gen_config.py SCHEMA --header FILE --source FILE   C++ into the build tree
       gen_config.py --regenerate ROOT                    .docs/config.md and contracts/config-schema/*.schema.json
       gen_config.py --check ROOT                         exits 1 when one of those differs from what it would write

The dialect of a schema file:
  process, namespace, about
  keys: NAME -> {type, help, ...}
    string  format? path|listen|endpoint|name|digest|device|url
    int     min, max
    bool
    enum    name (C++ type), values
    struct  keys
    list    of (a string or a struct), item (C++ type of a struct), min_items, max_items
  A key with `default` or `optional: true` may be left out; a struct may when all its keys may; any other is required.
  rules: checks over several keys
    loopback         path                      an address must be reachable from this host only
    loopback_unless  path, nonempty            the same while the list `nonempty`, or each of several, is empty; LIST[].KEY
                                               stands for the lists of all items
    unique           list, key                 no two items share the key
    at_most          path, limit               one integer bounds another
    required_when    list, key, when, is       the item's key is required when its enum `when` has that value
Files are written only when their content changes.
"""

import argparse
import json
import pathlib
import sys

import yaml

ATTRIBUTES = {
    "string": {"format"}, "int": {"min", "max"}, "bool": set(), "enum": {"name", "values"}, "struct": {"keys"},
    "list": {"of", "item", "min_items", "max_items"},
}
CPP_KEYWORDS = {"auto", "default", "new", "delete", "static", "class", "register", "union", "for", "and", "or", "not"}
PATTERNS = {
    "path": r"^[^\u0000-\u001f]{1,4096}$",
    "listen": r"^(unix:/.{1,106}|([0-9.]+|\[::1\]|\[::\]):[0-9]{1,5})$",
    "endpoint": r"^(unix:/.{1,106}|([A-Za-z0-9.-]{1,253}|\[::1\]):[1-9][0-9]{0,4})$",
    "name": r"^[A-Za-z0-9._-]{1,128}$",
    "digest": r"^sha256:[0-9a-f]{64}$",
    "device": r"^(auto|cpu|vulkan(:([0-9]{1,3}|[0-9a-f]{32}|[0-9A-Za-z-]{36}))?)$",
    "url": r"^https?://[A-Za-z0-9:/.\-_\[\]~%]+$",
}


def fail(message):
    sys.exit(f"gen_config.py: {message}")


def load(path):
    schema = yaml.safe_load(pathlib.Path(path).read_text(encoding="utf-8"))
    if set(schema) != {"process", "namespace", "about", "keys", "rules"}:
        fail(f"{path}: top level must be process, namespace, about, keys, rules")
    check_keys(path, "", schema["keys"])
    return schema


def check_keys(path, prefix, keys):
    for name, key in keys.items():
        where = f"{path}: {prefix}{name}"
        allowed = ATTRIBUTES.get(key.get("type"))
        if allowed is None:
            fail(f"{where}: unknown type {key.get('type')}")
        unknown = set(key) - allowed - {"type", "help", "default", "optional"}
        if unknown:
            fail(f"{where}: unknown attributes {sorted(unknown)}")
        if not key.get("help"):
            fail(f"{where}: needs help")
        if key["type"] == "int" and "default" in key and not key["min"] <= key["default"] <= key["max"]:
            fail(f"{where}: default out of range")
        if key["type"] == "enum" and "default" in key and key["default"] not in key["values"]:
            fail(f"{where}: default is no value")
        if key["type"] == "struct":
            check_keys(path, f"{prefix}{name}.", key["keys"])
        if key["type"] == "list" and key["of"]["type"] == "struct":
            check_keys(path, f"{prefix}{name}[].", key["of"]["keys"])


def is_optional(key):
    if key["type"] == "struct":
        return all(is_optional(child) for child in key["keys"].values())
    return "default" in key or key.get("optional", False)


def camel(name):
    return "".join(part.capitalize() for part in name.split("_"))


def quoted(text):
    return json.dumps(text, ensure_ascii=True)


def enumerator(value):
    value = value.replace("-", "_")
    return value + "_" if value in CPP_KEYWORDS else value


def int_type(key):
    return "std::uint32_t" if key["max"] <= 0xFFFFFFFF else "std::uint64_t"


def collect_enums(keys, found):
    for key in keys.values():
        if key["type"] == "enum":
            if found.setdefault(key["name"], key["values"]) != key["values"]:
                fail(f"enum {key['name']} has two lists of values")
        elif key["type"] == "struct":
            collect_enums(key["keys"], found)
        elif key["type"] == "list" and key["of"]["type"] == "struct":
            collect_enums(key["of"]["keys"], found)
    return found


def struct_lines(type_name, keys, indent, comment=None):
    pad = "  " * indent
    lines = [f"{pad}// {comment}"] if comment else []
    lines.append(f"{pad}struct {type_name} {{")
    for name, key in keys.items():
        if key["type"] == "struct":
            lines += struct_lines(camel(name), key["keys"], indent + 1)
        elif key["type"] == "list" and key["of"]["type"] == "struct":
            lines += struct_lines(key["item"], key["of"]["keys"], indent + 1)
    for name, key in keys.items():
        kind = key["type"]
        if kind == "struct":
            text = f"{camel(name)} {name};"
        elif kind == "list":
            item = key["item"] if key["of"]["type"] == "struct" else "std::string"
            text = f"std::vector<{item}> {name};"
        elif kind == "int":
            text = f"{int_type(key)} {name} = {key.get('default', key['min'])};"
        elif kind == "bool":
            text = f"bool {name} = {str(key.get('default', False)).lower()};"
        elif kind == "enum":
            text = f"{key['name']} {name} = {key['name']}::{enumerator(key.get('default', key['values'][0]))};"
        else:
            text = f"std::string {name}" + (f" = {quoted(key['default'])};" if "default" in key else ";")
        lines.append(f"{pad}  {text}")
    lines.append(f"{pad}}};")
    return lines


def rows(keys, prefix=""):
    """(path, key) of every leaf and list, in order."""
    for name, key in keys.items():
        path = prefix + name
        if key["type"] == "struct":
            yield from rows(key["keys"], path + ".")
        elif key["type"] == "list" and key["of"]["type"] == "struct":
            yield path, key
            yield from rows(key["of"]["keys"], path + "[].")
        else:
            yield path, key


def type_text(key):
    kind = key["type"]
    if kind == "int":
        return f"integer {key['min']}..{key['max']}"
    if kind == "enum":
        return " or ".join(key["values"])
    if kind == "list":
        return f"list of {key['min_items']}..{key['max_items']}"
    return f"string ({key['format']})" if "format" in key else {"string": "string", "bool": "true or false"}[kind]


def default_text(key):
    if "default" in key:
        return json.dumps(key["default"]) if not isinstance(key["default"], str) else key["default"]
    return "none" if key.get("optional") else "required"


def header(schema):
    enums = collect_enums(schema["keys"], {})
    lines = [f"// Generated from contracts/config-schema/{schema['process']}.yaml by ci/tools/gen_config.py.", "#pragma once", "",
             "#include <array>", "#include <cstdint>", "#include <string>", "#include <string_view>", "#include <vector>", "",
             '#include "common/base/result.h"', '#include "contracts/config_error.h"', "",
             f"namespace {schema['namespace']} {{", ""]
    for name, values in enums.items():
        lines.append(f"enum class {name} : std::uint8_t {{ {', '.join(enumerator(v) for v in values)} }};")
    lines.append("")
    lines += struct_lines("Config", schema["keys"], 0, schema["about"])
    lines.append("")
    for name in enums:
        lines.append(f"std::string_view to_string({name} value);")
    table = list(rows(schema["keys"]))
    lines += ["", "// Strict: an unknown or repeated key, a wrong type, a value out of its range or a missing required key is an error",
              "// that names the key's path and the limit.",
              "Result<Config, ConfigError> load_config(const std::string& yaml_text);", "",
              "struct ConfigKey {", "  std::string_view path;", "  std::string_view type;", "  std::string_view fallback;",
              "  std::string_view help;", "};", f"inline constexpr std::array<ConfigKey, {len(table)}> kConfigKeys{{{{"]
    for path, key in table:
        lines.append(f"    {{{quoted(path)}, {quoted(type_text(key))}, {quoted(default_text(key))},\n     {quoted(key['help'])}}},")
    lines += ["}};", "", f"}}  // namespace {schema['namespace']}", ""]
    return "\n".join(lines)


def reader_lines(function, type_name, keys, out):
    """Emits the reader of one struct after the readers of the structs inside it."""
    for name, key in keys.items():
        if key["type"] == "struct":
            reader_lines(f"{function}_{name}", f"{type_name}::{camel(name)}", key["keys"], out)
        elif key["type"] == "list" and key["of"]["type"] == "struct":
            reader_lines(f"{function}_{name}", f"{type_name}::{key['item']}", key["of"]["keys"], out)
    known = ", ".join(quoted(name) for name in keys)
    out.append(f"void {function}(ErrorSink& sink, const YAML::Node& node, const std::string& path, {type_name}& out) {{")
    out.append(f"  Section section(sink, node, path, {{{known}}});")
    for name, key in keys.items():
        need = "Need::optional" if is_optional(key) else "Need::required"
        kind = key["type"]
        if kind == "struct":
            out.append(f"  {function}_{name}(sink, section.child({quoted(name)}), section.path_of({quoted(name)}), out.{name});")
        elif kind == "list":
            size = f"ListSize{{{key['min_items']}, {key['max_items']}}}"
            if key["of"]["type"] == "struct":
                out += [f"  section.items({quoted(name)}, {need}, {size}, [&](const YAML::Node& item, const std::string& item_path) {{",
                        f"    {function}_{name}(sink, item, item_path, out.{name}.emplace_back());", "  });"]
            else:
                out.append(f"  section.texts({quoted(name)}, {need}, Format::{key['of'].get('format', 'any')}, {size}, out.{name});")
        elif kind == "int":
            out.append(f"  section.integer({quoted(name)}, {need}, IntRange{{{key['min']}u, {key['max']}u}}, out.{name});")
        elif kind == "bool":
            out.append(f"  section.flag({quoted(name)}, {need}, out.{name});")
        elif kind == "enum":
            values = ", ".join(f"{{{quoted(v)}, {key['name']}::{enumerator(v)}}}" for v in key["values"])
            out.append(f"  section.choice<{key['name']}>({quoted(name)}, {need}, {{{values}}}, out.{name});")
        else:
            out.append(f"  section.text({quoted(name)}, {need}, Format::{key.get('format', 'any')}, out.{name});")
    out += ["}", ""]


def listed(names):
    return names if isinstance(names, list) else [names]


def is_empty(name):
    if "[]." not in name:
        return f"config.{name}.empty()"
    items, key = name.split("[].")
    return f"std::all_of(config.{items}.begin(), config.{items}.end(), [](const auto& item) {{ return item.{key}.empty(); }})"


def rule_lines(rule):
    kind = rule["rule"]
    if kind == "loopback":
        return [f"  if (!is_loopback(config.{rule['path']})) {{",
                f"    sink.report({quoted(rule['path'])},",
                f'                "must be a loopback address or a Unix socket, is \\"" + config.{rule["path"]} + "\\"");', "  }"]
    if kind == "loopback_unless":
        empty = " && ".join(is_empty(name) for name in listed(rule["nonempty"]))
        named = " and ".join(listed(rule["nonempty"])) + (" are" if isinstance(rule["nonempty"], list) else " is")
        return [f"  if (!is_loopback(config.{rule['path']}) && {empty}) {{",
                f"    sink.report({quoted(rule['path'])},",
                f'                "must be a loopback address or a Unix socket while {named} empty, is \\"" +',
                f'                    config.{rule["path"]} + "\\"");', "  }"]
    if kind == "unique":
        return ["  {", "    std::set<std::string> seen;", f"    for (std::size_t i = 0; i < config.{rule['list']}.size(); ++i) {{",
                f"      const std::string& value = config.{rule['list']}[i].{rule['key']};",
                "      if (!seen.insert(value).second) {",
                f'        sink.report("{rule["list"]}[" + std::to_string(i) + "].{rule["key"]}",',
                '                    "must be unique, \\"" + value + "\\" is given twice");', "      }", "    }", "  }"]
    if kind == "at_most":
        return [f"  if (config.{rule['path']} > config.{rule['limit']}) {{",
                f"    sink.report({quoted(rule['path'])},",
                f'                "must be at most {rule["limit"]} (" + std::to_string(config.{rule["limit"]}) + "), is " +',
                f'                    std::to_string(config.{rule["path"]}));', "  }"]
    if kind == "required_when":
        return [f"  for (std::size_t i = 0; i < config.{rule['list']}.size(); ++i) {{",
                f"    const auto& item = config.{rule['list']}[i];",
                f"    if (to_string(item.{rule['when']}) == {quoted(rule['is'])} && item.{rule['key']}.empty()) {{",
                f"      sink.report(\"{rule['list']}[\" + std::to_string(i) + \"].{rule['key']}\", \"is required when {rule['when']} is {rule['is']}\");",
                "    }", "  }"]
    fail(f"unknown rule {kind}")


def source(schema):
    stem = schema["process"].replace("-", "_")
    readers = []
    reader_lines("read_config", "Config", schema["keys"], readers)
    lines = [f"// Generated from contracts/config-schema/{schema['process']}.yaml by ci/tools/gen_config.py.",
             f'#include "gen/config_{stem}.h"', "", "#include <algorithm>", "#include <set>", "", '#include "contracts/config_reader.h"', "",
             f"namespace {schema['namespace']} {{", "namespace {", "", "using config::ErrorSink;", "using config::Format;",
             "using config::IntRange;", "using config::ListSize;", "using config::Need;", "using config::Section;",
             "using config::is_loopback;", ""]
    lines += readers
    lines.append("void check_rules(ErrorSink& sink, const Config& config) {")
    for rule in schema["rules"]:
        lines += rule_lines(rule)
    lines += ["}", "", "}  // namespace", ""]
    for name, values in collect_enums(schema["keys"], {}).items():
        lines += [f"std::string_view to_string({name} value) {{", "  switch (value) {"]
        lines += [f"    case {name}::{enumerator(v)}: return {quoted(v)};" for v in values]
        lines += ["  }", '  return "";', "}", ""]
    lines += ["Result<Config, ConfigError> load_config(const std::string& yaml_text) {", "  Config out;",
              "  auto error = config::read_document(yaml_text, [&out](ErrorSink& sink, const YAML::Node& root) {",
              '    read_config(sink, root, "", out);', "    if (!sink.error()) check_rules(sink, out);", "  });",
              "  if (error) return Err{*std::move(error)};", "  return out;", "}", "",
              f"}}  // namespace {schema['namespace']}", ""]
    return "\n".join(lines)


def docs(schemas):
    lines = ["# Configuration", "", "Generated from `contracts/config-schema/*.yaml`; do not edit. Each process reads one YAML file",
             "(`--config FILE`), strictly: an unknown or repeated key, a wrong type, a value out of range or a missing required key",
             "stops the start with the key's path and the limit (OC-CONFIG-6001).", ""]
    for schema in schemas:
        lines += [f"## {schema['process']}", "", schema["about"], "", "| key | type | default | meaning |", "|---|---|---|---|"]
        for path, key in rows(schema["keys"]):
            lines.append(f"| `{path}` | {type_text(key)} | {default_text(key)} | {key['help']} |")
        lines += ["", "Checks over several keys:", ""]
        for rule in schema["rules"]:
            kind = rule["rule"]
            if kind == "loopback":
                text = f"`{rule['path']}` is a loopback address or a Unix socket."
            elif kind == "loopback_unless":
                empty = " and ".join(f"`{name}`" for name in listed(rule["nonempty"]))
                empty += " are" if isinstance(rule["nonempty"], list) else " is"
                text = f"`{rule['path']}` is a loopback address or a Unix socket while {empty} empty."
            elif kind == "unique":
                text = f"`{rule['list']}[].{rule['key']}` is unique."
            elif kind == "at_most":
                text = f"`{rule['path']}` is at most `{rule['limit']}`."
            else:
                text = f"`{rule['list']}[].{rule['key']}` is required when `{rule['when']}` is {rule['is']}."
            lines.append(f"- {text}")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def json_type(key):
    kind = key["type"]
    out = {}
    if "help" in key:
        out["description"] = key["help"]
    if kind == "struct":
        return {**out, **json_object(key["keys"])}
    if kind == "list":
        out.update(type="array", items=json_type(key["of"]), minItems=key["min_items"], maxItems=key["max_items"])
    elif kind == "int":
        out.update(type="integer", minimum=key["min"], maximum=key["max"])
    elif kind == "bool":
        out["type"] = "boolean"
    elif kind == "enum":
        out["enum"] = key["values"]
    else:
        out["type"] = "string"
        if "format" in key:
            out["pattern"] = PATTERNS[key["format"]]
    if "default" in key:
        out["default"] = key["default"]
    return out


def json_object(keys):
    out = {"type": "object", "additionalProperties": False,
           "properties": {name: json_type(key) for name, key in keys.items()}}
    required = [name for name, key in keys.items() if not is_optional(key)]
    if required:
        out["required"] = required
    return out


def json_schema(schema):
    out = {"$schema": "http://json-schema.org/draft-07/schema#", "title": schema["process"],
           "description": schema["about"] + " Generated; checks over several keys are in .docs/config.md."}
    out.update(json_object(schema["keys"]))
    return json.dumps(out, indent=2) + "\n"


def write(target, text):
    path = pathlib.Path(target)
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def committed(root):
    """(path, text) of every generated file that is committed."""
    folder = pathlib.Path(root) / "contracts/config-schema"
    schemas = [load(path) for path in sorted(folder.glob("*.yaml"))]
    yield pathlib.Path(root) / ".docs/config.md", docs(schemas)
    for schema in schemas:
        yield folder / f"{schema['process']}.schema.json", json_schema(schema)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("schema", nargs="*")
    parser.add_argument("--header")
    parser.add_argument("--source")
    parser.add_argument("--check", metavar="ROOT")
    parser.add_argument("--regenerate", metavar="ROOT")
    args = parser.parse_args()
    for schema in [load(path) for path in args.schema]:
        if args.header:
            write(args.header, header(schema))
        if args.source:
            write(args.source, source(schema))
    if args.regenerate:
        for path, text in committed(args.regenerate):
            write(path, text)
    if args.check:
        stale = [str(path) for path, text in committed(args.check)
                 if not path.exists() or path.read_text(encoding="utf-8") != text]
        if stale:
            fail(f"not up to date: {', '.join(stale)}; run ci/tools/gen_config.py --regenerate .")


if __name__ == "__main__":
    main()
