"""What survives a kill -9 of the gateway, and what a plain request costs the disk (J1 to J7, ruling 12)."""

import os
import pathlib
import re
import resource
import signal
import stat
import uuid

import pytest

from orch_cluster import Cluster, mock_pool, native_pool, request, wait_until

SAMPLED = {"prompt": "Tell a long story about a lighthouse and the sea.", "max_tokens": 160, "temperature": 0.9, "seed": 4711}


@pytest.fixture()
def own_cluster():
    with Cluster([native_pool()], pool_managerd={"restart": {"initial_ms": 100}}) as running:
        yield running.wait_ready()


@pytest.fixture()
def own_mock():
    with Cluster([mock_pool()]) as running:
        yield running.wait_ready()


def post(cluster, headers=None, **changes):
    body = cluster.task_body(**{**SAMPLED, **changes})
    body.pop("deadline_ms", None)
    return body, request("POST", cluster.url + "/v1/tasks", body, headers)


def numbered(events):
    return [e for e in events if e[0] != "metrics"]


def whole(cluster, **changes):
    body, reply = post(cluster, **changes)
    assert reply.status == 202, reply.body
    return numbered(cluster.task_events(body["task_id"]))


def kill_and_restart(cluster):
    cluster.kill("orchestratord", signal.SIGKILL).wait()
    cluster.start_gateway()


def journal_state(cluster):
    files = sorted((cluster.dir / "gateway").glob("journal.db*"))
    return [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]


def test_J4_a_stream_goes_on_behind_last_event_id_after_kill_9(own_cluster):
    seed, expected = next((seed, events) for seed in range(1, 30) if len(events := whole(own_cluster, seed=seed)) > 120)
    body, reply = post(own_cluster, seed=seed)
    assert reply.status == 202
    seen = []
    stream = own_cluster.task_events(body["task_id"])
    for event in stream:
        if event[0] != "metrics":
            seen.append(event)
        if len(seen) == 60:
            break
    own_cluster.kill("orchestratord", signal.SIGKILL).wait()
    with pytest.raises(Exception):  # what had arrived before the kill still comes, then the connection is gone
        seen.extend(e for e in stream if e[0] != "metrics")
        raise ConnectionError("the stream ended")
    own_cluster.start_gateway()
    rest = numbered(own_cluster.task_events(body["task_id"], headers={"Last-Event-ID": seen[-1][2]}))
    joined = seen + rest
    assert [int(e[2]) for e in joined] == list(range(1, len(joined) + 1)), "no gap, no repetition"
    assert [e[1] for e in joined[1:-1]] == [e[1] for e in expected[1:-1]], "the same bytes and token ids"
    assert joined[-1][0] == "end" and joined[-1][1]["tokens_out"] == expected[-1][1]["tokens_out"]
    again = numbered(own_cluster.task_events(body["task_id"]))
    assert [e[1] for e in again[1:-1]] == [e[1] for e in expected[1:-1]], "and from the start as well"
    assert own_cluster.metric_sum("journal_recovered_total", way="resumed") == 1


def test_J4_a_finished_task_is_replayed_after_kill_9(own_cluster):
    body, _ = post(own_cluster, max_tokens=8)
    first = numbered(own_cluster.task_events(body["task_id"]))
    kill_and_restart(own_cluster)
    assert numbered(own_cluster.task_events(body["task_id"])) == first
    assert own_cluster.metric_sum("journal_recovered_total", way="replayed") == 1


def test_J5_an_idempotent_post_names_the_same_task_after_kill_9(own_cluster):
    key = {"Idempotency-Key": f"order-{uuid.uuid4()}"}
    body, first = post(own_cluster, key, max_tokens=4)
    assert first.status == 202 and "idempotent-replayed" not in first.headers
    for restarted in (False, True):
        if restarted:
            kill_and_restart(own_cluster)
        again = request("POST", own_cluster.url + "/v1/tasks", body, key)
        assert again.status == 202 and again.json() == first.json() and again.headers["idempotent-replayed"] == "true"
        other = request("POST", own_cluster.url + "/v1/tasks", {**body, "max_tokens": 5}, key)
        assert other.status == 409 and other.json()["field"] == "Idempotency-Key", other.body
    own_cluster.wait_ready()
    assert own_cluster.metric_sum("tasks_enqueued_total") == 0, "nothing was queued again"


def test_J5_a_repeated_chat_request_gets_the_first_answer(own_cluster):
    body = {"model": "smollm2-135m-instruct", "messages": [{"role": "user", "content": "Name a colour."}], "max_tokens": 12, "temperature": 1.0}
    key = {"Idempotency-Key": "colour"}
    first = request("POST", own_cluster.url + "/v1/chat/completions", body, key)
    again = request("POST", own_cluster.url + "/v1/chat/completions", body, key)
    assert first.status == again.status == 200
    assert again.json()["id"] == first.json()["id"] and again.json()["choices"] == first.json()["choices"]
    assert request("POST", own_cluster.url + "/v1/chat/completions", {**body, "max_tokens": 3}, key).status == 409


def test_J5_a_repeated_streamed_chat_is_answered_under_the_name_of_the_first(own_mock):
    body = {"model": "mock-model", "messages": [{"role": "user", "content": "Name a colour."}], "max_tokens": 6, "stream": True}
    replies = [request("POST", own_mock.url + "/v1/chat/completions", body, {"Idempotency-Key": "colour"}) for _ in range(2)]
    assert [r.status for r in replies] == [200, 200]
    names = [{r.headers["x-orch-task-id"], *re.findall(r'"id":"chatcmpl-([^"]+)"', r.body.decode())} for r in replies]
    assert names[0] == names[1] and len(names[0]) == 1, names
    assert numbered(own_mock.task_events(names[1].pop()))[-1][0] == "end", "it is a task that can be read"


def test_ruling12_a_plain_request_costs_no_disk_write(own_cluster):
    wait_until(lambda: own_cluster.metric_sum("journal_commits_total") > 0, 10, "the manager that grants leases is written down (M1)")
    before = own_cluster.metric_sum("journal_commits_total"), journal_state(own_cluster)
    for _ in range(3):
        assert own_cluster.chat("Hello").status == 200
    assert (own_cluster.metric_sum("journal_commits_total"), journal_state(own_cluster)) == before
    whole(own_cluster, max_tokens=2)
    after = own_cluster.metric_sum("journal_commits_total")
    assert after > before[0] and journal_state(own_cluster) != before[1], "a task does"


def test_J6_a_full_disk_refuses_tasks_says_why_and_recovers(own_cluster):
    pid = own_cluster.processes["orchestratord"].pid
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    size = max(f.stat().st_size for f in (own_cluster.dir / "gateway").glob("journal.db*"))
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 1, limits[1]))
    _, refused = post(own_cluster, max_tokens=2)
    assert refused.status == 503 and refused.json()["code"] == "JOURNAL_UNAVAILABLE", refused.body
    assert int(refused.headers["retry-after"]) >= 1
    ready = request("GET", own_cluster.url + "/readyz")
    assert ready.status == 200 and b"journaled tasks are refused" in ready.body, ready.body
    assert own_cluster.metric_sum("journal_failing") == 1
    assert own_cluster.chat("Hello").status == 200, "plain requests go on"
    resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    wait_until(lambda: own_cluster.metric_sum("journal_failing") == 0, 15, "the journal is well again by itself")
    assert whole(own_cluster, max_tokens=2)[-1][0] == "end"


def test_OC_JOB_1013_a_damaged_journal_stops_the_start(own_cluster):
    whole(own_cluster, max_tokens=2)
    own_cluster.kill("orchestratord", signal.SIGTERM).wait()
    path = pathlib.Path(own_cluster.dir / "gateway/journal.db")
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(4096))
    with pytest.raises(Exception, match="journal"):
        own_cluster.start_gateway()
    assert own_cluster.processes["orchestratord"].returncode == 78
    path.unlink()
    own_cluster.start_gateway()


def test_OC_PLAT_1001_nothing_of_a_state_directory_is_for_others(tmp_path):
    previous = os.umask(0o022)  # what a service is started with
    try:
        for name in ("gateway", "pool"):
            (tmp_path / name).mkdir(mode=0o755)  # as an administrator makes it
        with Cluster([mock_pool()], directory=tmp_path) as cluster:
            cluster.wait_ready()
            body = cluster.task_body("A secret", model_ref="mock-model", max_tokens=2)
            assert request("POST", cluster.url + "/v1/tasks", body).status == 202
            assert numbered(cluster.task_events(body["task_id"]))[-1][0] == "end"
            found = [p for name in ("gateway", "pool") for p in (tmp_path / name).rglob("*")]
            assert {"journal.db", "journal.db-wal", "manager.sock"} <= {p.name for p in found}
            assert [(p.name, oct(p.stat().st_mode)) for p in found if stat.S_IMODE(p.stat().st_mode) & 0o077] == []
    finally:
        os.umask(previous)


def test_OC_JOB_1015_a_journal_left_behind_is_named_at_each_start(own_mock):
    body = own_mock.task_body("A secret", model_ref="mock-model", max_tokens=2)
    assert request("POST", own_mock.url + "/v1/tasks", body).status == 202
    assert own_mock.kill("orchestratord", signal.SIGTERM).wait(20) == 0
    own_mock.orchestratord_config = {"journal": {"enabled": False}}
    journal = str(own_mock.dir / "gateway/journal.db")

    def complaints():
        return [line for line in (own_mock.dir / "orchestratord.log").read_text().splitlines() if '"level":"error"' in line and journal in line]
    for _ in range(2):
        before = len(complaints())
        own_mock.start_gateway()
        assert own_mock.kill("orchestratord", signal.SIGTERM).wait(20) == 0
        assert len(complaints()) == before + 1
    os.remove(journal)
    own_mock.start_gateway()
    assert own_mock.kill("orchestratord", signal.SIGTERM).wait(20) == 0
    assert len(complaints()) == 2, "nothing is left to be named"
