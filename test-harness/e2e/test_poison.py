"""A prompt whose workers die: it takes down two at most, and its task is told so (M1, M3, M6, M7)."""

import os
import signal

import pytest

from orch_cluster import Cluster, native_pool, request, wait_until

PROMPT = "Here is a very long story about a ship that sails around the world. Chapter one."


@pytest.fixture()
def cluster():
    with Cluster([native_pool(replicas=2, slots=1, threads=1)], pool_managerd={"restart": {"initial_ms": 100}}) as running:
        running.wait_ready()
        wait_until(lambda: all(r["state"] == "ready" for r in running.replicas()), 60, "both replicas are ready")
        yield running


def post(cluster, prompt=PROMPT, **changes):
    body = cluster.task_body(prompt, **{"max_tokens": 900, "ctx": 2048, "deadline_ms": 600000, "seed": 11, **changes})
    return body["task_id"], request("POST", cluster.url + "/v1/tasks", body)


def read_tokens(stream, count):
    seen = 0
    while seen < count:
        name, data, _ = next(stream)
        assert name in ("started", "token", "metrics"), (name, data)
        seen += name == "token"


def kill_its_worker(cluster):
    busy = wait_until(lambda: next((r for r in cluster.replicas() if r["running"] == 1), None), 30, "a worker runs the task")
    os.kill(busy["pid"], signal.SIGKILL)
    return busy["replica_id"]


def test_OC_MIGR_M6_after_two_deaths_the_task_ends_for_good_and_its_prompt_is_refused(cluster):
    task, admitted = post(cluster)
    assert admitted.status == 202, admitted.body
    stream = cluster.task_events(task)
    read_tokens(stream, 3)
    first = kill_its_worker(cluster)
    read_tokens(stream, 3)  # it goes on, alone on the other one
    second = kill_its_worker(cluster)
    assert first != second
    rest = [(name, data) for name, data, _ in stream if name != "token" and name != "metrics"]
    assert len(rest) == 1 and rest[0][0] == "error", rest
    assert rest[0][1]["code"] == "WORKER_RESET" and rest[0][1]["retriable"] is False, rest
    cluster.wait_ready()
    _, again = post(cluster)
    assert again.status == 500 and again.json()["code"] == "WORKER_RESET", again.body
    assert again.json()["retriable"] is False and again.json()["field"] == "prompt", again.body
    other, admitted = post(cluster, PROMPT + " It rains.", max_tokens=8)
    assert admitted.status == 202, admitted.body
    assert [name for name, _, _ in cluster.task_events(other)][-1] == "end"
    assert cluster.metric_sum("tasks_poisoned_total") == 1
    assert cluster.metric_sum("tokens_recomputed_total") > 0


def refused_prompt(cluster):
    _, again = post(cluster)
    assert again.json()["code"] == "WORKER_RESET" and again.json()["field"] == "prompt", again.body
    assert again.json()["retriable"] is False


def test_OC_MIGR_M6_a_restart_of_the_gateway_forgets_neither_the_deaths_nor_the_prompt(cluster):
    task, admitted = post(cluster)
    assert admitted.status == 202, admitted.body
    stream = cluster.task_events(task)
    read_tokens(stream, 3)
    first = kill_its_worker(cluster)
    read_tokens(stream, 3)
    cluster.kill("orchestratord").wait()
    cluster.start_gateway()
    cluster.wait_ready()
    second = next(r for r in cluster.replicas() if r["replica_id"] != first)
    os.kill(second["pid"], signal.SIGKILL)
    rest = [(name, data) for name, data, _ in cluster.task_events(task) if name in ("error", "end")]
    assert len(rest) == 1 and rest[0][0] == "error", rest
    assert rest[0][1]["code"] == "WORKER_RESET" and rest[0][1]["retriable"] is False, rest
    cluster.wait_ready()
    refused_prompt(cluster)
    cluster.kill("orchestratord").wait()
    cluster.start_gateway()
    cluster.wait_ready()
    refused_prompt(cluster)


def test_OC_MIGR_M3_a_task_that_went_on_elsewhere_says_so(cluster):
    task, admitted = post(cluster, max_tokens=120)
    assert admitted.status == 202, admitted.body
    stream = cluster.task_events(task)
    read_tokens(stream, 3)
    kill_its_worker(cluster)
    name, data, _ = list(stream)[-1]
    assert name == "end", data
    assert (data["migrated"], data["replayable"], data["kv_migrated"]) == (True, True, False), data
    assert data["tokens_out"] <= 120
