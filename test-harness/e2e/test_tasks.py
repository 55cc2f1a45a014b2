"""OrchQueue v1 over HTTP and SSE against the live gateway."""

import uuid

import pytest

from orch_cluster import ClusterError, request, wait_until


def post(cluster, **changes):
    body = cluster.task_body(**{"prompt": "Count from one to ten in words.", "temperature": 0, **changes})
    return body["task_id"], request("POST", cluster.url + "/v1/tasks", body)


def cancel(cluster, task_id):
    return request("POST", f"{cluster.url}/v1/tasks/{task_id}/cancel", b"")


def test_ORCH_2001_2002_admission_then_ordered_events(cluster):
    task_id, reply = post(cluster)
    assert reply.status == 202
    admitted = reply.json()
    assert admitted["task_id"] == task_id
    assert {"queue_position", "predicted_start_ms", "backoff_ms"} <= admitted.keys()
    events = list(cluster.task_events(task_id))
    names = [name for name, _, _ in events if name != "metrics"]
    assert names[0] == "started" and names[-1] in ("end", "error") and set(names[1:-1]) == {"token"}
    assert names[-1] == "end", events[-1]
    tokens = [data for name, data, _ in events if name == "token"]
    assert all(t["ids"] for t in tokens), "OC-CTRL-2024: the native worker names its tokens"
    assert [t["i"] for t in tokens] == list(range(len(tokens)))
    assert "".join(t["t"] for t in tokens).strip()
    assert events[-1][1]["tokens_out"] == sum(len(t["ids"]) for t in tokens)
    ids = [int(i) for name, _, i in events if name != "metrics"]
    assert ids == list(range(1, len(ids) + 1)), "event ids are gap-free"


def test_ORCH_1101_the_end_of_a_task_names_what_served_it(cluster):
    task_id, _ = post(cluster, max_tokens=3)
    for _ in range(2):  # live, then replayed
        name, end, _ = list(cluster.task_events(task_id))[-1]
        assert name == "end" and (end["accelerator"], end["numeric_class"]) == ("cpu", "X"), end


def test_two_readers_and_a_resumed_one_see_the_same_events(cluster):
    task_id, _ = post(cluster)
    first = list(cluster.task_events(task_id))
    again = list(cluster.task_events(task_id))
    assert [e for e in first if e[0] != "metrics"] == [e for e in again if e[0] != "metrics"]
    resumed = [e for e in cluster.task_events(task_id, headers={"Last-Event-ID": "5"}) if e[0] != "metrics"]
    assert resumed == [e for e in first if e[0] != "metrics" and int(e[2]) > 5]


def test_ORCH_2003_3017_cancel_is_terminal_and_frees_the_slot(cluster):
    task_id, _ = post(cluster, max_tokens=1024, prompt="Write a very long story.")
    stream = cluster.task_events(task_id)
    seen = [next(stream) for _ in range(3)]
    assert seen[0][0] == "started"
    assert cancel(cluster, task_id).status == 204
    rest = list(stream)
    assert rest[-1][0] == "error" and rest[-1][1]["code"] == "CANCELED"
    assert [e[0] for e in rest].count("error") == 1
    assert cancel(cluster, task_id).status == 204, "a repeated cancel is no error"
    wait_until(lambda: all(r["running"] == 0 for r in cluster.replicas()), 10, "the worker's slot is free")


def test_unknown_task_is_404_everywhere(cluster):
    unknown = str(uuid.uuid4())
    assert cancel(cluster, unknown).status == 404
    with pytest.raises(ClusterError, match="404"):
        list(cluster.task_events(unknown))


def test_a_repeated_task_id_is_a_conflict(cluster):
    task_id, first = post(cluster, max_tokens=1)
    assert first.status == 202
    body = cluster.task_body("again", task_id=task_id)
    reply = request("POST", cluster.url + "/v1/tasks", body)
    assert reply.status == 409 and reply.json()["code"] == "CONFLICT"
    assert list(cluster.task_events(task_id))[-1][0] == "end", "the first one is untouched"


def test_ORCH_3028_counters_move_by_what_was_generated(cluster):
    before = cluster.metric_sum("tokens_out_total")
    task_id, _ = post(cluster, max_tokens=7)
    assert list(cluster.task_events(task_id))[-1][1]["tokens_out"] == 7
    assert cluster.metric_sum("tokens_out_total") - before == 7
