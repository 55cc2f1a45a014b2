"""SIGTERM to the gateway while answers stream: each ends once, inside the drain deadline, and the process ends with 0."""

import json
import signal
import time

import pytest

from orch_cluster import Cluster, ClusterError, mock_pool, request

MODEL = "mock-model"


def mock_cluster(tmp_path, words, delay_ms, drain_ms, slots=1):
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"text": " ".join(f"w{i}" for i in range(words)), "token_delay_ms": delay_ms}))
    return Cluster([mock_pool(mock_script=str(script), slots=slots)], orchestratord={"drain_deadline_ms": drain_ms})


def post_task(cluster, **changes):
    body = cluster.task_body("Hi", model_ref=MODEL, **{"max_tokens": 4000, "ctx": 4096, **changes})
    reply = request("POST", cluster.url + "/v1/tasks", body)
    assert reply.status == 202, reply.body
    return body["task_id"]


def open_stream(cluster):
    """A task's stream, read up to its third event; the rest of it as a generator."""
    stream = cluster.task_events(post_task(cluster))
    names = [next(stream)[0] for _ in range(3)]
    assert names[0] == "started"
    return stream


def terminals(events):
    return [(name, data) for name, data, _ in events if name in ("end", "error")]


def test_a_stream_that_fits_into_the_deadline_ends_normally(tmp_path):
    with mock_cluster(tmp_path, words=150, delay_ms=5, drain_ms=20000) as cluster:
        cluster.wait_ready()
        stream = open_stream(cluster)
        gateway = cluster.kill("orchestratord", signal.SIGTERM)
        rest = list(stream)
        assert [name for name, _ in terminals(rest)] == ["end"] and rest[-1][0] == "end"
        assert rest[-1][1]["tokens_out"] == 150
        assert gateway.wait(10) == 0


def test_a_stream_past_the_deadline_ends_in_one_error(tmp_path):
    with mock_cluster(tmp_path, words=3000, delay_ms=20, drain_ms=300) as cluster:
        cluster.wait_ready()
        stream = open_stream(cluster)
        begun = time.monotonic()
        gateway = cluster.kill("orchestratord", signal.SIGTERM)
        rest = list(stream)
        ended = terminals(rest)
        assert len(ended) == 1 and rest[-1][0] == "error", ended
        assert ended[0][1]["code"] == "CANCELED", ended
        assert gateway.wait(10) == 0
        assert time.monotonic() - begun < 10, "the whole answer would take a minute"


def test_an_openai_stream_past_the_deadline_ends_in_one_error_without_an_end_mark(tmp_path):
    with mock_cluster(tmp_path, words=3000, delay_ms=20, drain_ms=300) as cluster:
        cluster.wait_ready()
        stream = cluster.chat_events("Hi", model=MODEL, max_tokens=3000)
        for _ in range(3):
            next(stream)
        gateway = cluster.kill("orchestratord", signal.SIGTERM)
        rest = [data for _, data, _ in stream]
        assert "[DONE]" not in rest
        errors = [d["error"]["code"] for d in rest if "error" in d]
        assert errors == ["CANCELED"] and "error" in rest[-1], rest[-1]
        assert gateway.wait(10) == 0


def test_while_draining_nothing_new_is_admitted_and_readyz_says_so(tmp_path):
    with mock_cluster(tmp_path, words=3000, delay_ms=20, drain_ms=60000) as cluster:
        cluster.wait_ready()
        task_id = post_task(cluster)
        stream = cluster.task_events(task_id)
        next(stream)
        gateway = cluster.kill("orchestratord", signal.SIGTERM)
        list_until_refused(cluster)
        assert request("GET", cluster.url + "/readyz").status == 503
        assert request("POST", f"{cluster.url}/v1/tasks/{task_id}/cancel", b"").status == 204
        rest = list(stream)
        assert rest[-1][0] == "error" and rest[-1][1]["code"] == "CANCELED"
        assert gateway.wait(10) == 0, "the last job's end is the drain's end"


def list_until_refused(cluster):
    """The signal is handled by the loop at its next turn; a request before that is admitted, and canceled here."""
    for _ in range(100):
        body = cluster.task_body("Hi", model_ref=MODEL)
        reply = request("POST", cluster.url + "/v1/tasks", body)
        if reply.status != 202:
            break
        request("POST", f"{cluster.url}/v1/tasks/{body['task_id']}/cancel", b"")
    assert reply.status == 503 and reply.json()["code"] == "POOL_UNREADY", reply.body
    assert int(reply.headers["retry-after"]) >= 1


def test_a_waiting_job_is_part_of_the_drain(tmp_path):
    with mock_cluster(tmp_path, words=60, delay_ms=5, drain_ms=20000) as cluster:
        cluster.wait_ready()
        first = open_stream(cluster)
        waiting = cluster.task_events(post_task(cluster))  # behind the only slot
        assert next(waiting)[0] == "started"
        gateway = cluster.kill("orchestratord", signal.SIGTERM)
        assert [name for name, _ in terminals(list(first))] == ["end"]
        assert [name for name, _ in terminals(list(waiting))] == ["end"], "an admitted job is served"
        assert gateway.wait(10) == 0


def test_after_the_drain_the_port_is_closed(tmp_path):
    with mock_cluster(tmp_path, words=10, delay_ms=1, drain_ms=1000) as cluster:
        cluster.wait_ready()
        assert cluster.kill("orchestratord", signal.SIGTERM).wait(10) == 0
        with pytest.raises((ClusterError, OSError)):
            list(cluster.chat_events("Hi", model=MODEL))
