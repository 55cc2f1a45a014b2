"""What a client can ask of the sampler and learn about it, through the whole chain: penalties, bias, log-probabilities, several
choices, shared prefixes. The native worker on the default model."""

import json
import math

import openai
import pytest

from orch_cluster import MODEL_NAME, Cluster, llama_server, mock_pool, request, wait_until

PROMPT = [{"role": "user", "content": "Name three colours."}]
LONG = [{"role": "user", "content": "The tide comes in and the tide goes out, and the gulls follow it. " * 12 + "What do the gulls follow?"}]


@pytest.fixture(scope="module")
def client(cluster):
    return openai.OpenAI(base_url=cluster.url + "/v1", api_key="unused", max_retries=0)


def ask(client, **changes):
    return client.chat.completions.create(**{"model": MODEL_NAME, "messages": PROMPT, "max_tokens": 16, "temperature": 0, **changes})


def test_OC_OAI_1010_log_probabilities_are_of_the_text_and_sum_below_one(client):
    answer = ask(client, logprobs=True, top_logprobs=5)
    content = answer.choices[0].logprobs.content
    assert bytes(b for entry in content for b in entry.bytes).decode() == answer.choices[0].message.content
    assert len(content) == answer.usage.completion_tokens
    for entry in content:
        assert entry.logprob <= 0 and len(entry.top_logprobs) == 5
        tops = [top.logprob for top in entry.top_logprobs]
        assert tops == sorted(tops, reverse=True) and sum(math.exp(x) for x in tops) <= 1 + 1e-6
        assert entry.top_logprobs[0].token == entry.token, "greedy: the likeliest"


def test_OC_OAI_1010_the_stream_tells_the_same(client):
    whole = ask(client, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    parts = []
    for chunk in ask(client, logprobs=True, top_logprobs=2, stream=True):
        if chunk.choices and chunk.choices[0].logprobs:
            parts += chunk.choices[0].logprobs.content
    assert [entry.model_dump() for entry in parts] == [entry.model_dump() for entry in whole]


def test_OC_OAI_1010_task_events_carry_them(cluster):
    body = cluster.task_body("The sea", max_tokens=5, temperature=0, logprobs=True, top_logprobs=1)
    assert request("POST", cluster.url + "/v1/tasks", body).status == 202
    scored = [entry for name, data, _ in cluster.task_events(body["task_id"]) if name == "token" for entry in data["logprobs"]]
    assert len(scored) == 5 and all(entry["logprob"] <= 0 for entry in scored)


def test_OC_NUM_1406_a_bias_bans_and_forces(client):
    likeliest = ask(client, logprobs=True, max_tokens=1).choices[0].logprobs.content[0]
    forced = ask(client, max_tokens=4, logit_bias={"260": 100}, logprobs=True).choices[0].logprobs.content
    assert len({entry.token for entry in forced}) == 1, "the same token again and again"
    assert forced[0].logprob < likeliest.logprob, "told as the model gave it, without the bias"


def test_OC_NUM_1405_a_penalty_changes_what_repeats(client):
    plain = ask(client, max_tokens=48).choices[0].message.content
    assert ask(client, max_tokens=48, frequency_penalty=2, presence_penalty=2).choices[0].message.content != plain
    assert ask(client, max_tokens=48, frequency_penalty=0, presence_penalty=0).choices[0].message.content == plain


def test_OC_OAI_1012_choices_differ_and_the_first_is_the_answer_without_n(client):
    changes = {"temperature": 1.0, "seed": 5, "max_tokens": 24}
    three = ask(client, n=3, **changes)
    texts = [choice.message.content for choice in three.choices]
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert len(set(texts)) >= 2, texts
    one = ask(client, **changes)
    assert texts[0] == one.choices[0].message.content
    assert three.usage.prompt_tokens == one.usage.prompt_tokens
    streamed = ["", "", ""]
    for chunk in ask(client, n=3, stream=True, stream_options={"include_usage": True}, **changes):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
        usage = chunk.usage
    assert streamed == texts
    assert usage.completion_tokens == three.usage.completion_tokens


def test_OC_OAI_1012_one_failed_choice_ends_the_answer(tmp_path):
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"text": "one two three four five", "fault": "fail", "fault_after": 2}))
    with Cluster([mock_pool(mock_script=str(script), slots=4)]) as cluster:
        cluster.wait_ready()
        body = {"model": "mock-model", "messages": PROMPT, "max_tokens": 20, "n": 3}
        reply = request("POST", cluster.url + "/v1/chat/completions", body)
        assert reply.status >= 500 and reply.json()["error"]["code"] == "WORKER_RESET", reply.body
        reply = request("POST", cluster.url + "/v1/chat/completions", {**body, "stream": True})
        text = reply.body.decode() if isinstance(reply.body, bytes) else reply.body
        assert '"code":"WORKER_RESET"' in text and "[DONE]" not in text
        reply = request("POST", cluster.url + "/v1/chat/completions", body, headers={"Idempotency-Key": "k"})
        assert reply.status == 400 and reply.json()["error"]["param"] == "n"


def test_OC_OAI_1012_a_refused_choice_leaves_no_job_behind(tmp_path):
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"text": "w", "repeat": 900, "token_delay_ms": 1000}))  # a job that nobody ends outlives the test
    gateway = {"tenant_defaults": {"concurrent_jobs": 2}, "drain_deadline_ms": 100}
    with Cluster([mock_pool(mock_script=str(script), slots=4)], orchestratord=gateway) as cluster:
        cluster.wait_ready()
        body = {"model": "mock-model", "messages": PROMPT, "max_tokens": 900, "n": 5}

        def live():
            return sum(t["live"] for t in request("GET", cluster.url + "/v1/tenants").json()["tenants"])
        for stream in (False, True):
            reply = request("POST", cluster.url + "/v1/chat/completions", {**body, "stream": stream})
            assert reply.status == 429 and reply.json()["error"]["code"] == "ADMISSION_REJECT", reply.body
            wait_until(lambda: live() == 0, 10, "no choice runs for nobody")


def test_OC_OAI_1011_a_repeated_prefix_is_told_and_changes_no_byte(client, cluster):
    first = ask(client, messages=LONG)
    again = ask(client, messages=LONG)
    assert again.choices[0].message.content == first.choices[0].message.content
    cached = again.usage.prompt_tokens_details.cached_tokens
    assert cached == again.usage.prompt_tokens - 1 >= 128, again.usage  # the last one is computed
    assert cluster.metric_sum("cached_prompt_tokens_total") >= cached


def test_OC_NUM_1407_log_probabilities_are_near_those_of_llama_cpp(client):
    """Ours and llama.cpp's round differently (ADR-0008): near, not equal."""
    ours = ask(client, messages=PROMPT, logprobs=True, top_logprobs=5, max_tokens=1).choices[0].logprobs.content[0]
    body = {"messages": PROMPT, "max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": 5}
    with llama_server() as url:
        reply = request("POST", url + "/v1/chat/completions", body)
    theirs = reply.json()["choices"][0]["logprobs"]["content"][0]
    other = {top["token"]: top["logprob"] for top in theirs["top_logprobs"]}
    both = [(top.logprob, other[top.token]) for top in ours.top_logprobs if top.token in other]
    assert len(both) >= 3, (ours, theirs)
    assert max(abs(a - b) for a, b in both) < 0.25, both
