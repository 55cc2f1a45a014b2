"""A real llama-server behind the adapter beside the native worker: the same prompts over the same public API."""

import pytest

from orch_cluster import MODEL_NAME, Cluster, llama_server, native_pool, request, wait_until

BRIDGED = "smollm2-llamacpp"
PROMPTS = ["Name three colours.", "What is the capital of France?", "Write one sentence about the sea."]


@pytest.fixture(scope="module")
def both():
    with llama_server() as url:
        pools = [native_pool(), {"id": "bridge", "engine": "llamacpp", "model": {"name": BRIDGED}, "engine_url": url, "slots": 1}]
        with Cluster(pools) as cluster:
            wait_until(lambda: len([r for r in cluster.replicas() if r["state"] == "ready"]) == 2, 60, "both replicas are ready")
            cluster.wait_ready()
            cluster.llama_url = url
            yield cluster


def slots_busy(cluster):
    return [s for s in request("GET", cluster.llama_url + "/slots").json() if s["is_processing"]]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_same_prompt_through_both(both, prompt):
    answers = {model: both.chat(prompt, model=model, max_tokens=24) for model in (MODEL_NAME, BRIDGED)}
    for model, reply in answers.items():
        assert reply.status == 200, reply.body
        body = reply.json()
        assert body["choices"][0]["message"]["content"].strip()
        assert body["usage"]["completion_tokens"] <= 24
    native, bridged = (a.json()["usage"]["prompt_tokens"] for a in answers.values())
    assert native == bridged, "the template and the tokenizer agree"
    assert answers[BRIDGED].headers["x-orch-engine"] == "llamacpp"
    assert answers[BRIDGED].headers["x-orch-numeric-class"] == "none"


def test_streaming_is_incremental_and_counted(both):
    events = [d for _, d, _ in both.chat_events(PROMPTS[2], model=BRIDGED, max_tokens=20, stream_options={"include_usage": True})]
    assert events[-1] == "[DONE]"
    texts = [c["delta"]["content"] for d in events[:-1] for c in d["choices"] if c.get("delta", {}).get("content")]
    assert len(texts) > 5
    assert next(d["usage"] for d in events[:-1] if d.get("usage"))["completion_tokens"] <= 20


def test_cancel_closes_the_engine_s_slot(both):
    stream = both.chat_events("Write a very long story.", model=BRIDGED, max_tokens=1500)
    for _ in range(4):
        next(stream)
    assert slots_busy(both)
    stream.close()
    wait_until(lambda: not slots_busy(both), 5, "llama-server's slot is idle")
    wait_until(lambda: all(r["running"] == 0 for r in both.replicas()), 8, "the lease's slot is free")


def test_identity_is_the_engine_s_own(both):
    bridged = next(r for r in both.replicas() if r["pool_id"] == "bridge")
    assert bridged["engine"] == "llamacpp" and bridged["engine_version"]
    assert bridged["ctx_max"] == 2048


def test_OC_ADAPT_5002_5021_the_engine_s_own_routes_are_not_reachable_through_us(both):
    bridged = next(r for r in both.replicas() if r["pool_id"] == "bridge")
    assert bridged["endpoint"].startswith("unix:")
    for route in ("/completion", "/props", "/slots", "/health", "/tokenize", "/v1/embeddings"):
        for method, body in (("GET", None), ("POST", {"prompt": "x"})):
            for url in (both.url, both.manager_url):
                assert request(method, url + route, body).status == 404, (method, url, route)
    assert request("GET", both.llama_url + "/props").status == 200, "they are there"
