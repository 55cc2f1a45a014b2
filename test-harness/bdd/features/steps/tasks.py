"""Tasks of /v1/tasks: submitting, reading, cancelling, and what must then hold."""

import json

from behave import then, when

from orch_cluster import request


def submit(context, prompt="Hello", **changes):
    if context.model:
        changes.setdefault("model_ref", context.model)
    body = context.cluster.task_body(prompt, **{"temperature": 0, **changes})
    context.reply = request("POST", context.cluster.url + "/v1/tasks", body)
    context.tasks.append(body["task_id"])
    return context.reply


def of_the_job(events):
    return [e for e in events if e[0] != "metrics"]


def text_of(events):
    return "".join(data["t"] for name, data, _ in events if name == "token")


@when('a task "{prompt}" of at most {tokens:d} tokens is submitted')
def submit_prompt(context, prompt, tokens):
    context.prompt, context.max_tokens = prompt, tokens
    assert submit(context, prompt, max_tokens=tokens).status == 202, context.reply.body


@when("{count:d} tasks are submitted")
def submit_many(context, count):
    # The first one runs; it has begun before the others come.
    context.replies = [submit(context, max_tokens=1000)]
    context.stream = context.cluster.task_events(context.tasks[0])
    assert next(context.stream)[0] == "started"
    context.replies += [submit(context, max_tokens=1000) for _ in range(count - 1)]


@when("a task with a deadline of {deadline:d} ms is submitted")
def submit_with_deadline(context, deadline):
    assert submit(context, max_tokens=1, deadline_ms=deadline).status == 202, context.reply.body
    context.stream = context.cluster.task_events(context.tasks[-1])


@when("a task is submitted with {field} set to {value}")
def submit_broken(context, field, value):
    submit(context, **{field: json.loads(value)})


@when("{count:d} events of its stream are read")
def read_some(context, count):
    context.stream = context.cluster.task_events(context.tasks[-1])
    context.events = [next(context.stream) for _ in range(count)]


@when("its stream is read to the end")
def read_all(context):
    context.events = of_the_job(context.cluster.task_events(context.tasks[-1]))


@when("the stream is read again after event {number:d}")
def read_again(context, number):
    context.again = of_the_job(context.cluster.task_events(context.tasks[-1], headers={"Last-Event-ID": str(number)}))


@when("the task is cancelled")
def cancel(context):
    assert request("POST", f"{context.cluster.url}/v1/tasks/{context.tasks[-1]}/cancel", b"").status == 204


@then("it is admitted with a place in the queue")
def admitted(context):
    body = context.reply.json()
    assert body["task_id"] == context.tasks[-1] and body["queue_position"] >= 0, body


@then('its stream is "started", then tokens, then one "end"')
def stream_in_order(context):
    context.events = of_the_job(context.cluster.task_events(context.tasks[-1]))
    names = [name for name, _, _ in context.events]
    assert names[0] == "started" and names[-1] == "end" and len(names) > 2 and set(names[1:-1]) == {"token"}, names


@then("the tokens are numbered without a gap from 0")
def numbered(context):
    numbers = [data["i"] for name, data, _ in context.events if name == "token"]
    assert numbers == list(range(len(numbers))), numbers


@then('the rest of its stream ends in "{last}" with code "{code}"')
@then('its stream ends in "{last}" with code "{code}"')
def ends_with_code(context, last, code):
    context.events += of_the_job(context.stream)
    assert context.events[-1][0] == last and context.events[-1][1]["code"] == code, context.events[-1]
    assert [e[0] for e in context.events].count(last) == 1


@then('the rest of its stream ends in "{last}"')
def ends_in(context, last):
    context.events = of_the_job(context.events) + of_the_job(context.stream)
    names = [name for name, _, _ in context.events]
    assert names[-1] == last and names.count(last) == 1, context.events[-1]
    ids = [int(number) for _, _, number in context.events]
    assert ids == list(range(1, len(ids) + 1)), ids


@then("the text is the one of an undisturbed run")
def undisturbed(context):
    context.cluster.wait_ready()
    disturbed = text_of(context.events)
    submit(context, context.prompt, max_tokens=context.max_tokens)
    assert disturbed and disturbed == text_of(context.cluster.task_events(context.tasks[-1]))


@then("the second reading is what followed event {number:d} in the first")
def resumed(context, number):
    assert context.again and context.again == [e for e in context.events if int(e[2]) > number], context.again


@then('{admitted:d} are admitted and {refused:d} are refused with status {status:d} and code "{code}"')
def split(context, admitted, refused, status, code):
    statuses = [r.status for r in context.replies]
    assert statuses.count(202) == admitted and statuses.count(status) == refused, statuses
    context.refusals = [r for r in context.replies if r.status == status]
    assert {r.json()["code"] for r in context.refusals} == {code}


@then("every refusal says when to come back")
def come_back(context):
    for reply in context.refusals:
        assert int(reply.headers["retry-after"]) > 0 and reply.json()["retry_after_ms"] > 0, (reply.headers, reply.body)


@then('it is refused with status {status:d} and code "{code}" naming "{field}"')
def refused_naming(context, status, code, field):
    body = context.reply.json()
    assert context.reply.status == status and body["code"] == code, context.reply.body
    assert body.get("field") == field, body
