"""Chats of /v1/chat/completions and what the system says of them."""

from behave import then, when

from orch_cluster import MODEL_NAME, MODEL_SHA256, request


def ask(context, content, **changes):
    reply = context.cluster.chat(content, **changes)
    assert reply.status == 200, reply.body
    return reply


@when('the chat "{content}" is asked twice with temperature {temperature:d} and seed {seed:d}')
def ask_twice(context, content, temperature, seed):
    context.answers = [ask(context, content, temperature=temperature, seed=seed).json()["choices"] for _ in range(2)]


@when('the chat "{content}" is asked once with at most {tokens:d} tokens')
def ask_once(context, content, tokens):
    context.reply = ask(context, content, max_tokens=tokens)


@when("the list of replica sets is read")
def list_replica_sets(context):
    context.reply = request("GET", context.cluster.url + "/v1/replicasets")


@then("both answers are equal")
def equal(context):
    first, second = context.answers
    assert first == second and first[0]["message"]["content"], context.answers


@then('the counter "{name}" has grown by the tokens of the answer')
def counted(context, name):
    grown = context.cluster.metric_sum(name) - context.tokens_before
    assert grown == context.reply.json()["usage"]["completion_tokens"] > 0, grown


@then('the reply\'s header "{name}" is "{value}"')
def header(context, name, value):
    assert context.reply.headers.get(name) == value, context.reply.headers


@then("it holds the default model with the digest of its file")
def digest_listed(context):
    digests = {row["model"]: row["model_digest"] for row in context.reply.json()}
    assert digests.get(MODEL_NAME) == f"sha256:{MODEL_SHA256}", digests
