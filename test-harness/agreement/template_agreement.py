#!/usr/bin/env python3
"""Our chat template interpreter against Jinja2, over templates written for this test and that of a model file.

Jinja2 is set up as chat templates expect it: sandboxed, trim_blocks, lstrip_blocks, loop controls, tojson without escaping
of HTML, raise_exception. A case is equal when both give the same text or both refuse. Exit 0 iff all are equal.

usage: template_agreement.py --tool build/.../render_tool [--model FILE.gguf]
"""
import argparse
import itertools
import json
import struct
import subprocess
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

CHATML = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nHi<|im_end|>\\n' }}"
          "{% endif %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")

# Shapes of real templates, in our own words.
TEMPLATES = [
    CHATML,
    """{%- if messages[0].role == 'system' -%}
    {%- set system = messages[0].content | trim %}
    {%- set rest = messages[1:] %}
{%- else -%}
    {%- set system = '' %}
    {%- set rest = messages %}
{%- endif -%}
{{ bos_token }}{% if system %}[SYS]{{ system }}[/SYS]{% endif %}
{% for m in rest %}
  {% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}
    {{ raise_exception('roles must alternate') }}
  {% endif %}
  {%- if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content | trim }} {{ eos_token }}{% endif %}
{% endfor %}
""",
    # As Gemma's: the system text joins the first turn, other names of roles, contents that may be lists of parts.
    """{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}{%- if messages[0]['content'] is string -%}
{%- set lead = messages[0]['content'] + '\n\n' -%}{%- else -%}{%- set lead = messages[0]['content'][0]['text'] + '\n\n' -%}{%- endif -%}
{%- set turns = messages[1:] -%}{%- else -%}{%- set lead = "" -%}{%- set turns = messages -%}{%- endif -%}
{%- for m in turns -%}{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception("turns must alternate") }}{%- endif -%}
{%- if m['role'] == 'assistant' -%}{%- set who = "model" -%}{%- else -%}{%- set who = m['role'] -%}{%- endif -%}
{{ '<start_of_turn>' + who + '\n' + (lead if loop.first else "") }}
{%- if m['content'] is string -%}{{ m['content'] | trim }}{%- elif m['content'] is iterable -%}{%- for part in m['content'] -%}
{%- if part['type'] == 'text' -%}{{ part['text'] | trim }}{%- endif -%}{%- endfor -%}{%- else -%}{{ raise_exception("unknown content") }}
{%- endif -%}{{ '<end_of_turn>\n' }}{%- endfor -%}{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}""",
    # As Qwen's: the last question is searched from the end, thoughts of earlier turns are left out, options may be absent.
    """{%- set ns = namespace(searching=true, last=messages|length - 1) %}
{%- for m in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}
{%- if ns.searching and m.role == "user" and m.content is string and not(m.content.startswith('<tool>') and m.content.endswith('</tool>')) %}
{%- set ns.searching = false %}{%- set ns.last = index %}{%- endif %}{%- endfor %}
{%- for m in messages %}{%- if m.role == "user" or (m.role == "system" and not loop.first) %}
{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}
{%- elif m.role == "assistant" %}{%- set text = m.content %}{%- set thought = '' %}
{%- if m.thought is string %}{%- set thought = m.thought %}{%- elif 'two' in text %}
{%- set thought = text.split('two')[0].rstrip('\n').split('<')[-1].lstrip('\n') %}{%- set text = text.split('two')[-1].lstrip('\n') %}{%- endif %}
{%- if loop.index0 > ns.last and (loop.last or thought) %}{{- m.role ~ '\n' ~ thought.strip('\n') ~ text }}{%- else %}{{- m.role ~ text }}{%- endif %}
{%- if m.tool_calls %}{%- for call in m.tool_calls %}{{- call.arguments | tojson }}{%- endfor %}{%- endif %}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- if thinking is defined and thinking is false %}{{- 'x' }}{%- endif %}{%- endif %}""",
    # As Llama 3's: options with defaults, the system text taken apart, tools that are not there.
    """{{- bos_token }}{%- if not date_string is defined %}{%- set date_string = "26 Jul 2024" %}{%- endif %}
{%- if custom_tools is defined %}{%- set tools = custom_tools %}{%- endif %}{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}{%- set lead = messages[0]['content']|trim %}{%- set messages = messages[1:] %}{%- else %}
{%- set lead = "" %}{%- endif %}{{- "<|head|>system<|end_head|>\n\n" }}{%- if tools is not none %}{{- "Environment\n" }}{%- endif %}
{{- "Today: " + date_string + "\n\n" + lead + "<|eot_id|>" }}
{%- for m in messages %}{%- if not (m.role == 'ipython' or m.role == 'tool' or 'tool_calls' in m) %}
{{- '<|head|>' + m['role'] + '<|end_head|>\n\n'+ m['content'] | trim + '<|eot_id|>' }}{%- elif 'tool_calls' in m %}
{%- if not m.tool_calls|length == 1 %}{{- raise_exception("one call at a time") }}{%- endif %}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|head|>assistant<|end_head|>\n\n' }}{%- endif %}""",
    """{% set ns = namespace(found=false, last='', n=0) %}
{% for m in messages %}
{% set ns.n = ns.n + m.content|length %}
{% if m.role == 'assistant' and not ns.found %}{% set ns.found = true %}{% set ns.last = m.content %}{% endif %}
{% endfor %}
{{ ns.found }} {{ ns.last }} {{ ns.n }}""",
    """{% macro show(m, tag='x', close=true) %}<{{ tag }}>{{ m.content }}{% if close %}</{{ tag }}>{% endif %}{% endmacro -%}
{% for m in messages %}{{ show(m, tag=m.role) }}{{ show(m, close=false) }}{% endfor %}""",
    "{% for m in messages|reverse %}{{ loop.index }}/{{ loop.length }} {{ loop.revindex0 }} "
    "{{ m.role|upper }}{% if not loop.last %}, {% endif %}{% else %}none{% endfor %}",
    "{% for m in messages if m.role == 'user' %}{{ loop.index }}:{{ m.content|capitalize }};{% else %}nobody{% endfor %}",
    "{{ messages | map(attribute='role') | join('|') }} {{ messages|selectattr('role','equalto','user')|list|length }}",
    "{{ messages|rejectattr('role', 'in', ['system', 'user'])|map(attribute='content')|list }}",
    "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{% if loop.index > 3 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
    "{% set x %}  {{ messages[-1].content }}!  {% endset %}[{{ x|trim }}]{{ x|length }}",
    "{{ messages|tojson }}", "{{ messages|tojson(indent=2) }}", "{{ messages[0] }} {{ [1, 2.5, none, true, 'q', {'a': []}] }}",
    "{{ messages[0].content[1:3] }}{{ messages[0].content[::-1] }}{{ messages[0]['content'][-2:] }}{{ messages[:1]|length }}",
    "{{ 'a,b,,c'.split(',') }} {{ ' x  y '.split() }} {{ 'a-b-c'.rsplit('-', 1) }} {{ 'abcabc'.replace('b', 'X', 1) }} {{ 'x'.join(['1','2']) }}",
    "{{ '  pad '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ '  l'.lstrip() }}|{{ 'r  '.rstrip() }}|{{ 'Hello World'.title() }}|{{ "
    "'ab'.startswith('a') }}|{{ 'ab'.endswith(('x','b')) }}",
    "{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ 1 + 2 * 3 - 4 }} {{ 'a' * 3 }} {{ 1 ~ 'b' ~ 2.0 }} {{ 10 % 4 }} {{ (1 + 2) * 3 }}",
    "{{ 1 < 2 and 2 <= 2 or false }} {{ not true }} {{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ 3 in [1, 3] }} {{ 'x' not in 'abc' }} {{ 'k' in {'k': 1} }}",
    "{{ 'yes' if messages else 'no' }} {{ 'only' if false }}[{{ undefined_name }}] {{ undefined_name is defined }} "
    "{{ messages is iterable }} {{ 3 is odd }} {{ none is none }} {{ 'a' is string }} {{ messages[0] is mapping }} {{ 4 is divisibleby 2 }} "
    "{{ 4 is not divisibleby(3) }}",
    "{{ undefined_name|default('d') }} {{ ''|default('e', true) }} {{ none|default('n') }} {{ messages[0].missing|default('m') }}",
    "{% for k, v in {'a': 1, 'b': [2]}.items() %}{{ k }}={{ v }};{% endfor %}{% for k, v in {'z': 1, 'a': 2}|dictsort %}{{ k }}{{ v }}{% "
    "endfor %}{{ {'a': 1}.get('b', 5) }}{{ {'a': 1}.get('b') }}",
    "{{ range(5)|list }} {{ range(2, 9, 3)|list }} {{ range(3, 0, -1)|list }} {{ [3, 1, 2]|sort }} {{ [3, 1]|sort(reverse=true) }} "
    "{{ ['b', 'A']|sort }} {{ [1, 1, 2]|unique|list }} {{ [1, 2]|sum }} {{ [1, 5, 2]|max }} {{ 'abc'|first }}{{ [1, 2]|last }}",
    "{{ '3'|int + 1 }} {{ 'x'|int }} {{ 2.7|int }} {{ '2.5'|float }} {{ 3|string ~ '!' }} {{ 2.5|round }} {{ -3|abs }} "
    "{{ 'a\nb\n'|indent(2) }}|{{ 'a\nb'|indent(2, true) }}",
    "line one\n    {% if true %}\n  kept\n    {% endif %}\nline two\n\t{# gone #}\nend\n\n",
    "a  {%- if true %}  b  {%- endif -%}  c  {{- ' d ' -}}  e  {#- x -#}  f",
    "  {%+ if true %} plus {% endif +%}\nrest",
    "{% raw %}{{ not run }} {% x %}{% endraw %}|{{ 1 }}", "{{ '{{ }} %}' }} {{ \"it's\" }} {{ 'q\\'s \\n \\u00e9' }}",
    "{% if messages|length > 2 %}many{% elif messages|length == 2 %}two{% else %}few{% endif %}",
    "{% set a, b = [1, 2] %}{{ b }}{{ a }}{% for x in [1,2] %}{% set a = 9 %}{% endfor %}{{ a }}{% if true %}{% set a = 7 %}{% endif %}{{ a }}",
    "{% for m in messages %}{% for c in [1,2] %}{{ loop.index }}{{ loop.first }}{% endfor %}{{ loop.index }}{{ loop.previtem.role if "
    "loop.previtem is defined else '-' }}{% endfor %}",
    "{{ messages[0]['content'] | replace('a', '<') | upper | lower }} {{ (messages|first).role }} {{ messages[99] is defined }} {{ messages.0.role }}",
    "{{ messages[99].role }}", "{{ 1 + 'a' }}", "{{ 1 / 0 }}", "{{ messages.foo.bar }}", "{% if x %}", "{{ 'abc }}", "{{ nope() }}", "{% set x.y = 1 %}",
    "{{ 1e3 }}" , "{{ 0.1 + 0.2 }} {{ 1e0 if false else 100000000000000000.0 }} {{ 5.0 }} {{ 123456.75 }}", "{{ -messages|length }}", "{{ -2 ** 2 }}",
    "{{ true and 'x' }} {{ 0 or [] }} {{ none == false }} {{ 1 if 0 else 2 if 0 else 3 }}",
    "{%- for m in messages -%}\n  {{- m.role }}: {{ m.content -}}\n{%- endfor %}\n",
    "{{ 'é日本'|length }} {{ 'é日本'[1] }}", "{% generation %}x{% endgeneration %}",
]

# Differences by decision: tuples are lists, and case mapping is ASCII. Each must still differ, or its line here is stale.
KNOWN_DIFFERENCES = ["{{ [] == () }}", "{{ 'é'|upper }}"]

CONVERSATIONS = [
    [("user", "hi")],
    [("system", " be kind "), ("user", "a cat, a hat")],
    [("user", "one"), ("assistant", "two\nlines"), ("user", "three 'q' \"d\" \\ <b> & é 日本")],
    [("system", "s"), ("user", ""), ("assistant", "  pad  "), ("user", "{{ x }} {% y %} <|im_end|>")],
    [("user", "u1"), ("user", "u2")],
]


def chat_template_of(path):
    """tokenizer.chat_template of a GGUF file: walks the key/value section."""
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    with open(path, "rb") as file:
        def number(form):
            return struct.unpack("<" + form, file.read(struct.calcsize(form)))[0]

        def text():
            return file.read(number("Q")).decode()

        def value(kind):
            if kind == 8:
                return text()
            if kind == 9:
                inner, count = number("I"), number("Q")
                return [value(inner) for _ in range(count)]
            return file.read(sizes[kind])

        file.seek(16)
        for _ in range(number("Q")):
            key, kind = text(), number("I")
            got = value(kind)
            if key == "tokenizer.chat_template":
                return got
    return None


class Generation(jinja2.ext.Extension):
    """{% generation %} as plain content."""
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment():
    def raise_exception(message):
        raise jinja2.TemplateError(message)

    def tojson(value, indent=None):
        return json.dumps(value, ensure_ascii=False, indent=indent)

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, Generation])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def theirs(env, template, context):
    try:
        return {"text": env.from_string(template).render(**context)}
    except Exception as error:  # any refusal counts as one
        return {"error": f"{type(error).__name__}: {error}"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", required=True)
    parser.add_argument("--model")
    arguments = parser.parse_args()
    templates = list(TEMPLATES)
    if arguments.model:
        template = chat_template_of(arguments.model)
        assert template, "the model has no chat template"
        templates.append(template)
    cases = []
    templates += KNOWN_DIFFERENCES
    for template, conversation, prompt in itertools.product(templates, CONVERSATIONS, (True, False)):
        context = {"messages": [{"role": role, "content": content} for role, content in conversation],
                   "add_generation_prompt": prompt, "bos_token": "<s>", "eos_token": "</s>"}
        cases.append({"template": template, "context": context})
    lines = "".join(json.dumps(case) + "\n" for case in cases)
    ours = subprocess.run([arguments.tool], input=lines, capture_output=True, text=True, check=True).stdout.split("\n")
    ours = [json.loads(line) for line in ours if line]
    assert len(ours) == len(cases)
    env = environment()
    equal = refused = 0
    wrong = {}
    for case, mine in zip(cases, ours):
        other = theirs(env, case["template"], case["context"])
        if mine.get("text") == other.get("text"):
            equal += 1
            refused += "error" in mine
        else:
            wrong.setdefault(case["template"], (mine, other))
    known = [template for template in KNOWN_DIFFERENCES if wrong.pop(template, None)]
    stale = [template for template in KNOWN_DIFFERENCES if template not in known]
    for template, (mine, other) in wrong.items():
        print(f"DIFFERENT {template!r}\n  ours   {mine}\n  theirs {other}")
    print(f"templates {len(templates)}, cases {len(cases)}, equal {equal} (of them refused by both {refused}), "
          f"templates with a difference {len(wrong)}, with a known one {len(known)}, stale known ones {stale}")
    return 1 if wrong or stale else 0


if __name__ == "__main__":
    sys.exit(main())
