"""`/v1/completions` with the official OpenAI client: raw prompts, no template. The native worker on the default model."""

import openai
import pytest

from orch_cluster import MODEL_NAME, llama_server, request

PROMPT = "The colours of the rainbow are red, orange, yellow,"


@pytest.fixture(scope="module")
def client(cluster):
    return openai.OpenAI(base_url=cluster.url + "/v1", api_key="unused", max_retries=0)


def ask(client, **changes):
    return client.completions.create(**{"model": MODEL_NAME, "prompt": PROMPT, "max_tokens": 24, "temperature": 0, **changes})


def test_OC_OAI_1013_a_raw_prompt_is_continued_as_by_a_task(client, cluster):
    answer = ask(client)
    assert answer.object == "text_completion" and answer.id.startswith("cmpl-") and answer.choices[0].logprobs is None
    assert answer.usage.completion_tokens == 24 and answer.choices[0].finish_reason == "length"
    body = cluster.task_body(PROMPT, max_tokens=24, temperature=0)
    assert request("POST", cluster.url + "/v1/tasks", body).status == 202
    assert answer.choices[0].text == "".join(data["t"] for name, data, _ in cluster.task_events(body["task_id"]) if name == "token")
    chat = client.chat.completions.create(model=MODEL_NAME, messages=[{"role": "user", "content": PROMPT}], max_tokens=1)
    assert answer.usage.prompt_tokens < chat.usage.prompt_tokens, "no template"
    assert ask(client, prompt=[PROMPT]).choices[0].text == answer.choices[0].text
    assert ask(client, max_tokens=openai.NOT_GIVEN).usage.completion_tokens == 16


def test_OC_OAI_1013_the_stream_is_the_whole_text(client):
    whole = ask(client)
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["length"]
    assert {c.object for c in chunks} == {"text_completion"} and len({c.id for c in chunks}) == 1
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens


def test_OC_OAI_1013_choices_and_stops(client):
    three = ask(client, n=3, best_of=3, temperature=1.0, seed=5)
    assert [choice.index for choice in three.choices] == [0, 1, 2] and len({choice.text for choice in three.choices}) > 1
    assert ask(client, temperature=1.0, seed=5).choices[0].text == three.choices[0].text
    whole = ask(client).choices[0].text
    stop = whole[len(whole) // 2:][:3]
    stopped = ask(client, stop=[stop]).choices[0]
    assert stopped.text == whole[:whole.index(stop)] and stopped.finish_reason == "stop"


def test_OC_OAI_1014_log_probabilities_are_of_the_text(client):
    choice = ask(client, logprobs=3).choices[0]
    told = choice.logprobs
    assert "".join(told.tokens) == choice.text and len(told.tokens) == 24
    for token, logprob, top, offset in zip(told.tokens, told.token_logprobs, told.top_logprobs, told.text_offset):
        assert choice.text[offset:].startswith(token) and top[token] == logprob == max(top.values()) and len(top) == 3
    parts = [c.choices[0].logprobs for c in ask(client, logprobs=3, stream=True) if c.choices and c.choices[0].logprobs]
    assert [t for part in parts for t in part.tokens] == told.tokens
    assert [t for part in parts for t in part.text_offset] == told.text_offset
    assert [t for part in parts for t in part.top_logprobs] == told.top_logprobs


def test_OC_OAI_1013_the_text_begins_as_that_of_llama_cpp(client):
    """Both greedy on the same file, which round differently (ADR-0008): the first tokens of a text that has few doubts."""
    ours = ask(client, max_tokens=4).choices[0].text
    with llama_server() as url:
        theirs = request("POST", url + "/v1/completions", {"prompt": PROMPT, "max_tokens": 4, "temperature": 0}).json()["choices"][0]["text"]
    assert ours == theirs


@pytest.mark.parametrize("field,value", [("echo", True), ("suffix", "x"), ("best_of", 2), ("prompt", ["a", "b"]), ("prompt", [1, 2])])
def test_OC_OAI_1013_what_is_not_built_is_refused_by_name(client, field, value):
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, **{field: value})
    assert caught.value.status_code == 501 and caught.value.code == "NOT_IMPLEMENTED" and caught.value.param == field


def test_OC_OAI_1005_a_model_by_its_name(client):
    assert client.models.retrieve(MODEL_NAME).id == MODEL_NAME
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("no-such-model")
    assert caught.value.code == "MODEL_NOT_FOUND"
