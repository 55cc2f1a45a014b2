"""The official OpenAI client against the live gateway."""

import openai
import pytest

from orch_cluster import MODEL_NAME

PROMPT = [{"role": "user", "content": "Name three colours."}]


@pytest.fixture(scope="module")
def client(cluster):
    return openai.OpenAI(base_url=cluster.url + "/v1", api_key="unused", max_retries=0)


def ask(client, **changes):
    return client.chat.completions.create(**{"model": MODEL_NAME, "messages": PROMPT, "max_tokens": 24, "temperature": 0, **changes})


def test_whole_answer_has_text_and_usage(client):
    answer = ask(client)
    assert answer.choices[0].message.content.strip()
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens > 10 and 0 < answer.usage.completion_tokens <= 24


def test_stream_equals_the_whole_answer(client):
    whole = ask(client).choices[0].message.content
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] in (["stop"], ["length"])
    assert chunks[-1].usage.completion_tokens == ask(client).usage.completion_tokens


def test_max_tokens_is_kept_and_named(client):
    answer = ask(client, max_tokens=3)
    assert answer.usage.completion_tokens == 3
    assert answer.choices[0].finish_reason == "length"


def test_same_seed_same_bytes_other_seed_other_bytes(client):
    texts = [ask(client, temperature=1.0, top_p=0.95, seed=s, max_tokens=32).choices[0].message.content for s in (1, 1, 2, 3)]
    assert texts[0] == texts[1]
    assert len(set(texts)) >= 2, "three seeds gave one text: the seed is not used"


def test_stop_string_ends_the_text_before_it(client):
    whole = ask(client, max_tokens=48).choices[0].message.content
    stop = whole[len(whole) // 2:][:4]
    answer = ask(client, max_tokens=48, stop=[stop])
    assert answer.choices[0].message.content == whole[:whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_models_lists_the_served_model(client):
    assert MODEL_NAME in [m.id for m in client.models.list()]


def test_unknown_model_is_a_typed_404(client):
    with pytest.raises(openai.NotFoundError) as caught:
        ask(client, model="no-such-model")
    assert caught.value.code == "MODEL_NOT_FOUND" and caught.value.param == "model"


def test_context_overflow_names_the_limit(client):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, messages=[{"role": "user", "content": "word " * 4000}])
    assert caught.value.code == "CONTEXT_OVERFLOW"
    assert "2048" in str(caught.value)


def test_every_reply_says_what_served_it(cluster):
    reply = cluster.chat("Hello")
    assert reply.headers["x-orch-accelerator"] == "cpu"
    assert reply.headers["x-orch-numeric-class"] == "X"
    assert reply.headers["x-orch-model-digest"].startswith("sha256:b179c952")
    assert reply.headers["x-correlation-id"]
