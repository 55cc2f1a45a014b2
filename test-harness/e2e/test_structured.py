"""Structured output with the real model: every complete answer obeys, everything else is refused before admission (OC-GRAMMAR)."""

import json
import os
import re
import signal
import uuid

import jsonschema
import openai
import pytest

from orch_cluster import MODEL_NAME, Cluster, mock_pool, native_pool, request, wait_until

PERSON = {"type": "object", "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 20},
                                           "age": {"type": "integer", "minimum": 0, "maximum": 120}},
          "required": ["name", "age"], "additionalProperties": False}
SCHEMAS = [
    ("Describe a person.", PERSON),
    ("Name three colours.", {"type": "array", "items": {"enum": ["red", "green", "blue", "yellow"]}, "minItems": 3, "maxItems": 3}),
    ("Is the sky blue?", {"type": "boolean"}),
    ("How many legs has a spider?", {"type": "integer", "minimum": 0, "maximum": 100}),
    ("When does the year begin?", {"type": "string", "format": "date"}),
    ("A licence plate, please.", {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}),
    ("A shape.", {"oneOf": [{"type": "object", "properties": {"kind": {"const": "circle"}, "radius": {"type": "number", "exclusiveMinimum": 0}},
                             "required": ["kind", "radius"], "additionalProperties": False},
                            {"type": "object", "properties": {"kind": {"const": "square"}, "side": {"type": "number", "exclusiveMinimum": 0}},
                             "required": ["kind", "side"], "additionalProperties": False}]}),
    ("A family tree.", {"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {
        "name": {"type": "string", "maxLength": 10}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2}},
        "required": ["name", "children"], "additionalProperties": False}}}),
    ("Rate the film.", {"type": "object", "properties": {"stars": {"type": "number", "minimum": 0.5, "maximum": 5}, "why": {"type": ["string", "null"]}},
                        "required": ["stars", "why"]}),
    ("Anything as JSON.", {"type": "object"}),
]


def answer_to(cluster, prompt, tokens=160, **changes):
    reply = request("POST", cluster.url + "/v1/chat/completions",
                    {"model": MODEL_NAME, "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, **changes})
    return reply.status, reply.json()


def schema_format(schema):
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


@pytest.mark.parametrize("temperature", [0, 1.2])
@pytest.mark.parametrize("number", range(len(SCHEMAS)))
def test_OC_GRAMMAR_1033_every_answer_obeys_its_schema(cluster, number, temperature):
    prompt, schema = SCHEMAS[number]
    status, reply = answer_to(cluster, prompt, temperature=temperature, seed=number, response_format=schema_format(schema))
    assert status == 200, reply
    text = reply["choices"][0]["message"]["content"]
    value = json.loads(text)
    jsonschema.Draft202012Validator(schema).validate(value)
    if isinstance(value, dict) and "properties" in schema:
        assert list(value) == [name for name in schema["properties"] if name in value], "members in the declared order"


def test_OC_GRAMMAR_1024_the_answer_ends_within_its_tokens(cluster):
    for tokens in (24, 32, 48):
        status, reply = answer_to(cluster, "Tell me everything.", tokens, temperature=1, response_format={"type": "json_object"})
        assert status == 200 and isinstance(json.loads(reply["choices"][0]["message"]["content"]), dict)
        assert reply["usage"]["completion_tokens"] <= tokens


def test_OC_GRAMMAR_1033_the_openai_client_can_ask_for_it(cluster):
    client = openai.OpenAI(base_url=cluster.url + "/v1", api_key="unused", max_retries=0)
    chunks = client.chat.completions.create(model=MODEL_NAME, messages=[{"role": "user", "content": "A person."}], max_tokens=100,
                                            temperature=0, stream=True, response_format=schema_format(PERSON))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    jsonschema.validate(json.loads(text), PERSON)


def post_task(cluster, constraint, **changes):
    body = cluster.task_body("Answer: ", temperature=1, seed=3, constraint=constraint, **changes)
    body["task_id"] = str(uuid.uuid4())
    return body, request("POST", cluster.url + "/v1/tasks", body)


def text_of(events):
    return "".join(data["t"] for name, data, _ in events if name == "token")


def test_OC_GRAMMAR_1033_a_task_takes_an_expression_or_a_grammar(cluster):
    for constraint, pattern in [({"regex": "(yes|no), [a-z]{3,8}!"}, "(yes|no), [a-z]{3,8}!"),
                                ({"gbnf": "root ::= \"- \" [a-z]+ (\"\\n- \" [a-z]+){2}"}, "- [a-z]+(\n- [a-z]+){2}")]:
        body, reply = post_task(cluster, constraint, max_tokens=60)
        assert reply.status == 202, reply.body
        assert re.fullmatch(pattern, text_of(cluster.task_events(body["task_id"])))


def test_OC_GRAMMAR_1032_what_is_not_supported_is_refused_before_admission(cluster):
    before = cluster.metric_sum("tasks_enqueued_total")
    for schema, field in [({"properties": {"a": {"not": {}}}}, "#/properties/a/not"), ({"type": "array", "uniqueItems": True}, "#/uniqueItems"),
                          ({"$ref": "#/$defs/none"}, "#/$ref"), ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "")]:
        status, reply = answer_to(cluster, "x", response_format=schema_format(schema))
        assert status == 400, reply
        assert reply["error"]["param"] == "response_format.json_schema.schema" + field, reply
    body, reply = post_task(cluster, {"regex": "a(?=b)"})
    assert reply.status == 400 and reply.json()["field"] == "constraint.regex"
    status, reply = answer_to(cluster, "x", response_format={"type": "json_object"}, stop=["}"])
    assert status == 400 and reply["error"]["param"] == "stop"
    assert cluster.metric_sum("tasks_enqueued_total") == before


def test_OC_GRAMMAR_1034_an_engine_that_cannot_obey_says_so():
    with Cluster([mock_pool()]) as running:
        running.wait_ready()
        status, reply = answer_to(running, "x", model="mock-model", response_format={"type": "json_object"})
        assert status == 400 and (reply["error"]["code"], reply["error"]["param"]) == ("INVALID_PARAMS", "constraint"), reply


def test_OC_GRAMMAR_1022_kill_9_of_workerd_changes_no_byte():
    """M2: the state of the automaton is found again from the token ids."""
    schema = {"type": "array", "items": PERSON, "minItems": 12}
    options = {"max_tokens": 400, "temperature": 1.0, "seed": 5, "response_format": schema_format(schema)}
    with Cluster([native_pool()], pool_managerd={"restart": {"initial_ms": 100}}) as own:
        own.wait_ready()
        whole = "".join(c["delta"].get("content") or "" for _, d, _ in own.chat_events("Invent people.", **options)
                        if isinstance(d, dict) for c in d.get("choices", []))
        jsonschema.validate(json.loads(whole), schema)
        before = own.ready_replica()
        text, killed = "", False
        for _, data, _ in own.chat_events("Invent people.", **options):
            text += "".join(c["delta"].get("content") or "" for c in data.get("choices", [])) if isinstance(data, dict) else ""
            if len(text) > len(whole) // 3 and not killed:
                os.kill(before["pid"], signal.SIGKILL)
                killed = True
        assert killed and text == whole
        wait_until(own.ready_replica, 30, "the restarted worker")
