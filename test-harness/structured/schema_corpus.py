"""Schemas of the declared subset (.specs/structured-output.md) and documents of them, both made from a seed.

The documents are made here, from the schema and without the product: they show that the language is not too narrow.
"""
import json
import random

WORDS = ["name", "age", "id", "value", "tags", "items", "a", "b", "x-y", "größe", "с", "a\"b", "k k", "n0"]
PATTERNS = [("^[a-z]{2,6}$", ["abc", "zz"]), ("[0-9]+", ["a1", "77"]), ("^(cat|dog)s?$", ["cats", "dog"]), ("^\\d{3}-\\d{4}$", ["123-4567"]),
            ("^[A-Z][a-z]* [A-Z][a-z]*$", ["Ada Love"]), ("é|ü$", ["xé", "ü"]), ("^\"[^\"]*\"$", ["\"q\""]), ("^[^@ ]+@\\w+\\.(com|org)$", ["a@b.com"]),
            ("^[^\\n]*\\n$", ["x\n"]), ("^.{1,3}$", ["你好"]), ("^(a|b(c|d){2}){1,3}$", ["abcd"])]
FORMATS = {"date": ["2024-02-28", "1999-12-31"], "time": ["23:59:59Z", "00:00:00.25+01:00"], "date-time": ["2024-01-31T10:20:30Z"],
           "uuid": ["6a1d0c1e-52ba-4b7e-9b39-2f6f3f1c7f10"], "ipv4": ["0.0.0.0", "192.168.1.255"]}
STRUCTURES = [[1, "a"], {"k": None}]
LITERALS = [None, True, False, 0, -7, 3.5, "", "x", "é\n", "a\"b\\", *STRUCTURES, [], {}]


class Corpus:
    """schema() makes one; document(schema) makes a document of it, in the order and spelling that is written."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.defs = {}

    def schema(self):
        self.defs = {}
        out = self.any(4)
        if self.rng.random() < 0.25 and isinstance(out, dict) and "$ref" not in out:
            name = self.rng.choice(["node", "a/b", "~t"])
            out = self.recursive(name, out)
        if self.defs and isinstance(out, dict):
            out["$defs"] = self.defs
        if isinstance(out, dict) and self.rng.random() < 0.3:
            out = {"title": "T", "description": "d", **out}
        return out

    def recursive(self, name, value):
        pointer = "#/$defs/" + name.replace("~", "~0").replace("/", "~1")
        style = self.rng.randrange(3)
        if style == 0:
            body = {"type": "object", "properties": {"v": value, "next": {"anyOf": [{"$ref": pointer}, {"type": "null"}]}},
                    "required": ["v", "next"], "additionalProperties": False}
        elif style == 1:
            body = {"type": "object", "properties": {"v": value, "kids": {"type": "array", "items": {"$ref": pointer}}}, "required": ["v"]}
        else:
            body = {"anyOf": [value, {"type": "array", "items": {"$ref": pointer}, "maxItems": 3}]}
        self.defs[name] = body
        return {"$ref": pointer}

    def any(self, depth):
        choices = [self.string, self.integer, self.number, self.literal, self.plain, self.free]
        if depth > 0:
            choices += [self.object, self.object, self.object, self.array, self.array, self.any_of, self.one_of]
        return self.rng.choice(choices)(depth)

    def plain(self, _):
        return {"type": self.rng.choice(["null", "boolean", "string", "integer", "number", ["string", "null"], ["integer", "boolean"]])}

    def free(self, _):
        return self.rng.choice([{}, True, {"type": "object"}, {"type": "array"}, {"type": ["object", "array", "null"]}])

    def literal(self, _):
        if self.rng.random() < 0.4:
            return {"const": self.rng.choice(LITERALS)}
        return {"enum": self.rng.sample(LITERALS, self.rng.randrange(1, 6))}

    def string(self, _):
        style = self.rng.randrange(4)
        if style == 0:
            return {"type": "string", "pattern": self.rng.choice(PATTERNS)[0]}
        if style == 1:
            return {"type": "string", "format": self.rng.choice(list(FORMATS))}
        out = {"type": "string"}
        low = self.rng.randrange(0, 6)
        if self.rng.random() < 0.5:
            out["minLength"] = low
        if self.rng.random() < 0.6:
            out["maxLength"] = low + self.rng.randrange(0, 20)
        return out

    def integer(self, _):
        out = {"type": "integer"}
        low = self.rng.choice([self.rng.randrange(-10, 10), self.rng.randrange(-100000, 100000), -2.5, 0])
        if self.rng.random() < 0.6:
            out[self.rng.choice(["minimum", "exclusiveMinimum"])] = low
        if self.rng.random() < 0.6:
            out[self.rng.choice(["maximum", "exclusiveMaximum"])] = low + self.rng.choice([2, 3, 17, 1000, 123456])
        return out

    def number(self, _):
        out = {"type": "number"}
        low = self.rng.choice([0, -1, 0.5, -273.15, 1e-3, 99.99, self.rng.randrange(-1000, 1000)])
        if self.rng.random() < 0.6:
            out[self.rng.choice(["minimum", "exclusiveMinimum"])] = low
        if self.rng.random() < 0.6:
            out[self.rng.choice(["maximum", "exclusiveMaximum"])] = round(low + self.rng.choice([0.25, 1, 10.5, 1000]), 6)
        return out

    def array(self, depth):
        out = {"type": "array"}
        first = self.rng.randrange(1, 4) if self.rng.random() < 0.3 else 0
        if first:
            out["prefixItems"] = [self.any(depth - 1) for _ in range(first)]
        if self.rng.random() < 0.8:
            out["items"] = self.any(depth - 1) if not first or self.rng.random() < 0.5 else False
        closed = first and out.get("items", False) is False
        low = self.rng.randrange(0, 3) if not closed else self.rng.randrange(0, first + 1)
        if self.rng.random() < 0.6:
            out["minItems"] = low
        if self.rng.random() < 0.5:
            out["maxItems"] = low + self.rng.randrange(0, 3)
        return out

    def object(self, depth):
        names = self.rng.sample(WORDS, self.rng.randrange(0, 6))
        out = {"type": "object", "properties": {name: self.any(depth - 1) for name in names}}
        out["required"] = [name for name in names if self.rng.random() < 0.6]
        style = self.rng.randrange(4)
        if style == 0:
            out["additionalProperties"] = False
        elif style == 1:
            out["additionalProperties"] = self.any(min(depth - 1, 1))
            if self.rng.random() < 0.3:
                out["required"].append("other")
        if not out["required"]:
            del out["required"]
        return out

    def any_of(self, depth):
        return {"anyOf": [self.any(depth - 1) for _ in range(self.rng.randrange(1, 4))]}

    def one_of(self, depth):
        if self.rng.random() < 0.5:
            kinds = self.rng.sample(["null", "boolean", "integer", "string"], self.rng.randrange(1, 4))
            return {"oneOf": [{"type": kind} for kind in kinds]}
        return {"oneOf": [{"type": "object", "properties": {"kind": {"const": kind}, "value": self.any(depth - 1)},
                           "required": ["kind", "value"], "additionalProperties": False}
                          for kind in self.rng.sample(["a", "b", 1, 2, None], 2)]}

    # --- documents ---

    def document(self, schema, root=None, depth=0):
        """A Python value; None of it is made by what is judged. Raises Unlucky where this simple maker finds none."""
        root = schema if root is None else root
        if depth > 24:
            raise Unlucky
        if schema is True or schema == {}:
            return self.rng.choice([1, "x", None, [1, {"a": []}], {"b": False}])
        if "$ref" in schema:
            name = schema["$ref"].split("/")[-1].replace("~1", "/").replace("~0", "~")
            return self.document(root["$defs"][name], root, depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self.rng.choice(schema["enum"])
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                options = schema[keyword]
                return self.document(options[-1] if depth > 12 else self.rng.choice(options), root, depth + 1)
        kind = schema["type"]
        kind = self.rng.choice(kind) if isinstance(kind, list) else kind
        return getattr(self, "make_" + kind)(schema, root, depth + 1)

    def make_null(self, *_):
        return None

    def make_boolean(self, *_):
        return self.rng.random() < 0.5

    def make_string(self, schema, *_):
        if "pattern" in schema:
            return self.rng.choice(dict(PATTERNS)[schema["pattern"]])
        if "format" in schema:
            return self.rng.choice(FORMATS[schema["format"]])
        low = schema.get("minLength", 0)
        size = self.rng.randrange(low, min(schema.get("maxLength", low + 8), low + 8) + 1)
        return "".join(self.rng.choice("ab \"\\\né你😀/") for _ in range(size))

    def make_integer(self, schema, *_):
        low, high = self.bounds(schema)
        for _ in range(50):
            value = self.rng.randrange(-12, 12) if low is None and high is None else round((low if low is not None else high) + self.rng.randrange(-3, 4))
            if self.inside(value, schema):
                return value
        raise Unlucky

    def make_number(self, schema, *_):
        low, high = self.bounds(schema)
        for _ in range(50):
            value = round((low if low is not None else high if high is not None else 0) + self.rng.choice([0, 0.125, -0.125, 0.001, 5]), 6)
            if self.inside(value, schema):
                return value
        raise Unlucky

    @staticmethod
    def bounds(schema):
        return (schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum", schema.get("exclusiveMaximum")))

    @staticmethod
    def inside(value, schema):
        return (value >= schema.get("minimum", value) and value <= schema.get("maximum", value)
                and value > schema.get("exclusiveMinimum", value - 1) and value < schema.get("exclusiveMaximum", value + 1))

    def make_array(self, schema, root, depth):
        first = schema.get("prefixItems", [])
        rest = schema.get("items", not first)
        low = schema.get("minItems", 0)
        if rest is False and low > len(first):
            rest = True
        high = min(schema.get("maxItems", low + 3), low + 3, len(first) if rest is False else 99)
        size = low if depth > 8 or high < low else self.rng.randrange(low, high + 1)
        return [self.document(first[i] if i < len(first) else rest, root, depth) for i in range(size)]

    def make_object(self, schema, root, depth):
        out = {}
        required = schema.get("required", [])
        for name, value in schema.get("properties", {}).items():
            if name in required or (depth < 8 and self.rng.random() < 0.5):
                out[name] = self.document(value, root, depth)
        others = schema.get("additionalProperties", not schema.get("properties") and not required)
        for name in required:
            if name not in out:
                out[name] = self.document(schema.get("additionalProperties", True), root, depth)
        if others is not False and depth < 6 and self.rng.random() < 0.4:
            out["free_" + str(self.rng.randrange(9))] = self.document(others, root, depth)
        return out


class Unlucky(Exception):
    pass


def has_exponent(value):
    """Spelled by Python with an exponent, which bounded numbers are not written with."""
    return "e" in json.dumps(value).lower() if isinstance(value, float) else \
        any(map(has_exponent, value.values() if isinstance(value, dict) else value)) if isinstance(value, (dict, list)) else False


def spell(rng, value, level=0):
    """JSON in one of the spacings that may be written."""
    style = rng.randrange(3)
    if value in STRUCTURES:  # a constant is written in one way
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, dict):
        open_, close, comma = [("{", "}", ","), ("{ ", " }", ", "), ("{\n" + "  " * min(level + 1, 8), "\n" + "  " * min(level, 8) + "}",
                                                                      ",\n" + "  " * min(level + 1, 8))][style]
        if not value:
            return "{}"
        colon = rng.choice([":", ": "])
        return open_ + comma.join(json.dumps(k, ensure_ascii=False) + colon + spell(rng, v, level + 1) for k, v in value.items()) + close
    if isinstance(value, list):
        return "[" + rng.choice([",", ", "]).join(spell(rng, v, level + 1) for v in value) + "]" if value else "[]"
    return json.dumps(value, ensure_ascii=False)
