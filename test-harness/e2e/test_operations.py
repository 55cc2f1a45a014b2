"""Drain, undrain, reload and rolling restart on real processes, over HTTP and the command line, with requests going on meanwhile."""

import contextlib
import hashlib
import json
import pathlib
import shutil
import subprocess
import threading

import pytest

from orch_cluster import MODEL_SHA256, Cluster, binary_dir, mock_pool, model_file, native_pool, parse_metrics, request, wait_until

DIGEST = f"sha256:{MODEL_SHA256}"


def operate(cluster, path, body=None):
    return request("POST", f"{cluster.manager_url}/v1/{path}", body or {}, timeout=120)


def ended(cluster, begun):
    def look():
        operation = request("GET", f"{cluster.manager_url}/v1/operations/{begun['operation_id']}").json()
        return operation if operation["state"] != "running" else None
    return wait_until(look, 60, f"operation {begun} ends")


def cli(cluster, *arguments):
    return subprocess.run([binary_dir() / "llama-orch-cli", "--state-dir", str(cluster.dir), *arguments], capture_output=True, text=True,
                          timeout=120, check=False)


@contextlib.contextmanager
def asking(cluster, clients=3, **chat):
    """Chats one after another in each of some threads; yields the list of (status, text)."""
    answers, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            reply = cluster.chat("Hello", **chat)
            answers.append((reply.status, reply.json()["choices"][0]["message"]["content"] if reply.status == 200 else reply.body))
    threads = [threading.Thread(target=ask, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(answers) >= clients, 60, "answers come")
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


@pytest.fixture(scope="module")
def native():
    with Cluster([native_pool()]) as running:
        yield running.wait_ready()


def test_OC_POOL_3052_a_reload_under_load_fails_nobody_and_changes_no_byte(native, tmp_path):
    other = tmp_path / "copy.gguf"
    shutil.copy(model_file(), other)
    before = native.ready_replica()
    with asking(native) as answers:
        asked = len(answers)
        reply = operate(native, "pools/default/reload?wait=true", {"model": {"path": str(other), "digest": DIGEST}})
        assert reply.status == 200, reply.body
        wait_until(lambda: len(answers) > asked + 10, 60, "the successor answers")
    assert {status for status, _ in answers} == {200}, answers[-3:]
    assert len({text for _, text in answers}) == 1, "the same file, the same bytes"
    after = native.ready_replica()
    assert after["replica_id"] != before["replica_id"] and after["pid"] != before["pid"]
    assert str(other).encode() in pathlib.Path(f"/proc/{after['pid']}/cmdline").read_bytes()
    print(f"{len(answers)} answers, {len(answers) - asked} of them during the reload and after it; it took {reply.json()['took_ms']} ms")


def test_OC_POOL_3053_a_file_with_another_digest_is_not_taken_and_the_old_worker_stays(native, tmp_path):
    broken = tmp_path / "broken.gguf"
    content = bytearray(pathlib.Path(model_file()).read_bytes())
    content[-1] ^= 1
    broken.write_bytes(content)
    before = native.ready_replica()
    reply = operate(native, "pools/default/reload?wait=true", {"model": {"path": str(broken), "digest": DIGEST}})
    assert reply.status == 409 and reply.json()["code"] == "CONFLICT", reply.body
    assert "digest" in reply.json()["message"] or hashlib.sha256(content).hexdigest() in reply.json()["message"], reply.body
    after = native.ready_replica()
    assert after["pid"] == before["pid"] and after["state"] == "ready"
    assert after["last_error"].startswith("reload: "), after
    assert native.chat("Hello").status == 200
    metrics = parse_metrics(request("GET", native.manager_url + "/metrics").body.decode())
    labels = (("operation", "reload"), ("pool_id", "default"), ("result", "fail"))
    assert metrics[("operations_total", labels)] == 1


def test_OC_POOL_3051_the_command_line_drains_and_brings_back(native):
    drained = cli(native, "drain", "default", "--deadline", "5")
    assert drained.returncode == 0 and "drain of default: 1 of 1 replicas" in drained.stdout, drained
    assert native.ready_replica() is None
    wait_until(lambda: native.chat("Hello").status == 503, 10, "a drained pool takes nothing")
    back = cli(native, "undrain", "default")
    assert back.returncode == 0, back
    native.wait_ready()
    assert native.chat("Hello").status == 200
    unknown = cli(native, "drain", "nothing")
    assert unknown.returncode == 1 and "no pool and no replica is called 'nothing'" in unknown.stderr
    no_file = cli(native, "reload", "nothing", "default")
    assert no_file.returncode == 1 and "no model file" in no_file.stderr


def test_ORCH_2101_a_drain_past_its_deadline_cuts_the_job_with_one_error(native):
    stream = native.chat_events("Write a very long story about a ship.", max_tokens=1500)
    for _ in range(3):
        next(stream)
    begun = operate(native, "pools/default/drain", {"deadline_ms": 200})
    assert begun.status == 202 and begun.headers["location"] == f"/v1/operations/{begun.json()['operation_id']}"
    rest = [data for _, data, _ in stream]
    errors = [d["error"]["code"] for d in rest if isinstance(d, dict) and "error" in d]
    assert errors == ["WORKER_RESET"], rest[-2:]
    operation = ended(native, begun.json())
    assert operation["state"] == "succeeded" and operation["jobs_cut"] == 1, operation
    assert operate(native, "pools/default/undrain?wait=true").status == 200
    native.wait_ready()


def test_M2_a_task_drained_mid_stream_goes_on_elsewhere_with_the_same_bytes():
    """One slot each: what the drain cuts goes on in the other one's, from where its reader is."""
    wanted = {"max_tokens": 600, "ctx": 2048, "deadline_ms": 600000, "seed": 11}
    with Cluster([native_pool(replicas=2, slots=1, threads=1)]) as cluster:
        cluster.wait_ready()
        wait_until(lambda: all(r["state"] == "ready" for r in cluster.replicas()), 60, "both replicas are ready")

        def events_of(when_it_runs=lambda: None):
            body = cluster.task_body("Here is a very long story about a ship. Chapter one.", **wanted)
            assert request("POST", cluster.url + "/v1/tasks", body).status == 202
            events = []
            for event in cluster.task_events(body["task_id"]):
                events.append(event)
                if event[0] == "token" and event[1]["i"] == 2:
                    when_it_runs()
            return events

        begun = []

        def drain():
            busy = wait_until(lambda: next((r for r in cluster.replicas() if r["running"] == 1), None), 30, "a worker runs it")
            begun.append(operate(cluster, f"replicas/{busy['replica_id']}/drain", {"deadline_ms": 200}).json())
        quiet, drained = events_of(), events_of(drain)
        operation = ended(cluster, begun[0])
        assert operation["state"] == "succeeded" and operation["jobs_cut"] == 1, operation
        states = sorted(r["state"] for r in cluster.replicas())
        assert states == ["ready", "stopped"], states

    def text(events):
        return "".join(data["t"] for name, data, _ in events if name == "token")
    numbered = [(name, data, int(event_id)) for name, data, event_id in drained if event_id]
    assert [number for _, _, number in numbered] == list(range(1, len(numbered) + 1)), "an id is missing or comes twice"
    tokens = [data["i"] for name, data, _ in numbered if name == "token"]
    assert tokens == list(range(len(tokens))), "a token is missing or comes twice"
    assert text(drained) == text(quiet), "the same bytes as without the drain"
    (name, end, _), (_, whole, _) = drained[-1], quiet[-1]
    assert name == "end" and end["tokens_out"] == whole["tokens_out"] == len(tokens), (end, whole)
    assert (end["migrated"], end["replayable"], end["kv_migrated"]) == (True, True, False), end


def test_OC_POOL_3052_a_rolling_restart_of_two_under_load_fails_nobody(tmp_path):
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"text": "one two three four five six", "token_delay_ms": 5}))
    with Cluster([mock_pool(mock_script=str(script), slots=2, replicas=2)]) as cluster:
        cluster.wait_ready()
        before = {r["pid"] for r in cluster.replicas()}
        with asking(cluster, clients=4, model="mock-model") as answers:
            restarted = cli(cluster, "restart", "mock")
            assert restarted.returncode == 0 and "2 of 2 replicas" in restarted.stdout, restarted
            asked = len(answers)
            wait_until(lambda: len(answers) > asked + 20, 60, "the successors answer")
        assert {status for status, _ in answers} == {200}, [a for a in answers if a[0] != 200][:3]
        assert not before & {r["pid"] for r in cluster.replicas()}
        sets = request("GET", cluster.url + "/v1/replicasets").json()
        assert [s["replicas"] for s in sets] == [2], "the gateway has forgotten those that are gone"


def test_OC_POOL_3050_a_second_operation_on_a_pool_is_refused_while_one_replaces_it(tmp_path):
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"text": " ".join(f"w{i}" for i in range(2000)), "token_delay_ms": 20}))
    with Cluster([mock_pool(mock_script=str(script))]) as cluster:
        cluster.wait_ready()
        stream = cluster.chat_events("Hi", model="mock-model", max_tokens=2000)
        for _ in range(3):
            next(stream)
        begun = operate(cluster, "pools/mock/restart", {"deadline_ms": 60000}).json()
        wait_until(lambda: any(r["state"] == "draining" for r in cluster.replicas()), 30, "the old one drains while its job runs")
        refused = operate(cluster, "pools/mock/drain")
        assert refused.status == 409 and "restart of mock is under way" in refused.json()["message"], refused.body
        stream.close()  # the job ends, and with it the drain
        assert ended(cluster, begun)["state"] == "succeeded"
        listed = request("GET", cluster.manager_url + "/v1/operations").json()["operations"]
        assert [o["operation_id"] for o in listed] == [begun["operation_id"]], "what is refused is no operation"


def test_OC_MODEL_1008_a_retired_model_is_unloaded_and_comes_back():
    with Cluster([native_pool(replicas=2, threads=1)]) as cluster:
        cluster.wait_ready()
        model = request("GET", cluster.url + "/v1/models").json()["data"][0]["id"]

        def state(to):
            reply = request("POST", cluster.url + "/v1/admin/models/state", {"name": model, "digest": DIGEST, "state": to})
            assert reply.status == 200, reply.body

        def all_are(wanted):
            wait_until(lambda: {r["state"] for r in cluster.replicas()} == {wanted}, 60, f"every replica is {wanted}")
        all_are("ready")
        state("retired")
        all_are("stopped")
        assert {r["pid"] for r in cluster.replicas()} == {0}
        refused = cluster.chat("Hello")
        assert refused.status == 403 and refused.json()["error"]["code"] == "MODEL_DEPRECATED", refused.body
        state("draft")
        all_are("ready")
        state("active")
        assert cluster.chat("Hello").status == 200
