"""What the processes say of themselves, and to whom: keys, logs, metrics, readiness, versions, errors, life cycle, the state that is listed."""

import importlib
import json
import os
import re
import signal
import socket
import sys
import urllib.parse
import uuid

import grpc
import pytest
import yaml
from grpc_tools import protoc

from orch_cluster import MODEL_NAME, MODEL_SHA256, ROOT, Cluster, mock_pool, native_pool, parse_metrics, request, wait_until

MODEL = "mock-model"
KEY, WRONG_KEY, BATCH_KEY = "operator-key-0123456789", "another-key-9876543210", "batch-key-0123456789abc"
SAID, ASKED = "quixotic", "zanzibar"  # words of the answer and of the prompt that stand nowhere else
ABSENT = "absent-model"
LIMITS = {"concurrent_jobs": 300, "requests_per_second": 200, "request_burst": 400, "tokens_per_minute": 90_000}


def with_key(key=KEY):
    return {"authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    """A gateway that wants a key; one pool serves, the other's model file is missing."""
    folder = tmp_path_factory.mktemp("keyed")
    (folder / "key").write_text(KEY)
    (folder / "batch").write_text(BATCH_KEY)
    (folder / "script.json").write_text(json.dumps({"text": f"{SAID} one two three", "token_delay_ms": 1}))
    absent = native_pool(id="absent")
    absent["model"] = {"name": ABSENT, "path": str(folder / "no-such-file.gguf")}
    log = {"log": {"level": "debug"}}
    gateway = {"auth": {"key_files": [str(folder / "key")]},
               "tenants": [{"name": "patient", "key_files": [str(folder / "batch")], "highest_class": "batch", **LIMITS}], **log}
    with Cluster([mock_pool(mock_script=str(folder / "script.json")), absent], gateway, log) as cluster:
        cluster.wait_ready()
        wait_until(lambda: any(r["state"] == "failed" for r in cluster.replicas()), 30, "the model file is missed")
        yield cluster


def get(cluster, path, key=KEY):
    return request("GET", cluster.url + path, headers=with_key(key) if key else None)


def task(cluster, expect=202, key=KEY, **changes):
    body = {"task_id": str(uuid.uuid4()), "model_ref": MODEL, "prompt": f"{ASKED} two", "max_tokens": 4, **changes}
    reply = request("POST", cluster.url + "/v1/tasks", body, with_key(key))
    assert reply.status == expect, reply.body
    return body["task_id"], reply


def events(cluster, task_id):
    return list(cluster.task_events(task_id, headers=with_key()))


def test_ORCH_3035_OC_CTRL_2040_without_its_key_nothing_is_served(keyed):
    for method, path in (("GET", "/v1/models"), ("GET", "/v1/capabilities"), ("GET", "/v1/admin/queue"), ("POST", "/v1/tasks"),
                         ("POST", "/v1/chat/completions"), ("DELETE", "/v1/sessions/x")):
        for headers in ({}, with_key(WRONG_KEY), {"authorization": KEY}, with_key(KEY[:-1])):
            refused = request(method, keyed.url + path, b"{}" if method == "POST" else None, headers)
            assert refused.status == 401, (method, path, headers, refused.body)
            told = refused.json().get("error", refused.json())
            assert told["code"] == "UNAUTHENTICATED"
    assert get(keyed, "/v1/models").status == 200
    assert request("GET", keyed.url + "/v1/models", headers={"x-api-key": KEY}).status == 200


def test_ORCH_3035_the_grpc_side_wants_the_same_key(keyed, tmp_path):
    files = [str(p) for p in (ROOT / "proto/orch/v1").glob("*.proto")]
    assert protoc.main(["protoc", f"-I{ROOT}/proto", f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}", *files]) == 0
    sys.path.insert(0, str(tmp_path))
    messages, service = (importlib.import_module(f"orch.v1.{name}") for name in ("orchestrator_pb2", "orchestrator_pb2_grpc"))
    with grpc.insecure_channel(keyed.grpc) as channel:
        calls = service.OrchestratorStub(channel)
        for metadata, expected in ((None, "UNAUTHENTICATED"), ((("x-api-key", WRONG_KEY),), "UNAUTHENTICATED"), ((("x-api-key", KEY),), "NOT_FOUND")):
            with pytest.raises(grpc.RpcError) as caught:
                calls.Cancel(messages.CancelRequest(task_id=str(uuid.uuid4())), metadata=metadata)
            assert caught.value.code().name == expected, metadata


def test_ORCH_3027_OC_CTRL_2041_logs_are_json_without_keys_prompts_or_answers(keyed):
    task_id, admitted = task(keyed)
    assert SAID in "".join(data["t"] for name, data, _ in events(keyed, task_id) if name == "token")
    assert get(keyed, "/v1/models", WRONG_KEY).status == 401
    logs = {name: keyed.dir / f"{name}.log" for name in ("orchestratord", "pool-managerd")}
    mine = wait_until(lambda: {line["event"]: line for line in map(json.loads, logs["orchestratord"].read_text().splitlines())
                               if line.get("job_id") == task_id and line["event"] in ("task_admitted", "task_ended")}, 10, "it is logged")
    wait_until(lambda: f'"event":"task_ended","job_id":"{task_id}"' in logs["orchestratord"].read_text(), 10, "its end is logged")
    assert mine["task_admitted"]["queue_position"] == admitted.json()["queue_position"]
    for name, path in logs.items():
        for line in map(json.loads, path.read_text().splitlines()):
            assert {"ts", "level", "service", "event"} <= line.keys() and line["service"] == name, line
    for path in [*logs.values(), *(keyed.dir / "pool").rglob("*.log")]:
        text = path.read_text(errors="replace")
        assert not [word for word in (KEY, WRONG_KEY, SAID, ASKED) if word in text], path


def test_OC_TENANT_1005_a_tenant_of_batch_work_alone_is_refused_another_class(keyed):
    refused = task(keyed, expect=403, key=BATCH_KEY)[1].json()
    assert (refused["code"], refused["field"]) == ("FORBIDDEN", "priority")
    task(keyed, key=BATCH_KEY, priority="batch", detached=True)


def test_OC_CTRL_2084_strict_determinism_is_refused_where_nobody_declares_a_class(keyed):
    refused = task(keyed, expect=400, determinism="strict")[1].json()
    assert (refused["code"], refused["field"]) == ("INVALID_PARAMS", "determinism")
    assert events(keyed, task(keyed, determinism="best_effort")[0])[-1][0] == "end"


def test_ORCH_2008_no_engine_has_another_name(keyed):
    assert {r["engine"] for r in keyed.replicas()} == {"native", "mock"}
    refused = task(keyed, expect=400, engine="llama.cpp")[1].json()
    assert (refused["code"], refused["field"]) == ("INVALID_PARAMS", "engine") and "sglang" in refused["message"]


def test_OC_CTRL_2051_OC_METRICS_7106_pages_are_prometheus_text_and_need_no_key(keyed):
    for url, family in ((keyed.url, "http_requests_total"), (keyed.manager_url, "pool_ready")):
        page = request("GET", url + "/metrics")
        assert page.status == 200 and page.headers["content-type"].startswith("text/plain; version=0.0.4")
        lines = page.body.decode().splitlines()
        assert f"# TYPE {family} " in "\n".join(lines)
        assert all(re.fullmatch(r'[a-z_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? \S+', line) for line in lines if not line.startswith("# ")), url


def test_OC_CTRL_2074_2081_2082_readyz_and_refusals_say_why_not(tmp_path):
    absent = native_pool()
    absent["model"] = {"name": ABSENT, "path": str(tmp_path / "no-such-file.gguf")}
    with Cluster([absent]) as cluster:
        assert request("GET", cluster.url + "/livez").status == 200
        wait_until(lambda: b"no-such-file.gguf" in request("GET", cluster.url + "/readyz").body, 30, "it says what is missing")
        assert request("GET", cluster.url + "/readyz").status == 503
        unready = cluster.chat("Hi", model=ABSENT)
        assert unready.status == 503 and unready.json()["error"]["code"] == "POOL_UNREADY" and int(unready.headers["retry-after"]) >= 1
        cluster.kill("pool-managerd").wait()
        wait_until(lambda: request("GET", cluster.url + "/readyz").body == b"no pool manager is attached", 30, "it says who is missing")
        assert request("GET", cluster.url + "/readyz").status == 503
        gone = cluster.chat("Hi", model=ABSENT)
        assert gone.status == 503 and gone.json()["error"]["code"] == "POOL_UNAVAILABLE"
        assert request("GET", cluster.url + "/livez").status == 200


def contract(name):
    return yaml.safe_load((ROOT / f"contracts/openapi/{name}.yaml").read_text())


def test_ORCH_3095_3096_OC_CTRL_2061_capabilities_are_those_of_the_contract_and_of_live_replicas(keyed):
    told = get(keyed, "/v1/capabilities").json()
    assert told["api_version"] == contract("control")["info"]["version"]
    live = {r["replica_id"]: r for r in keyed.replicas()}
    assert {e["replica_id"] for e in told["engines"]} == set(live)
    mock = next(e for e in told["engines"] if e["pool_id"] == "mock")
    assert (mock["engine"], mock["state"], mock["model"], mock["slots"]) == ("mock", "ready", MODEL, 1)
    assert mock["engine_version"] and mock["ctx_max"] == next(r for r in live.values() if r["pool_id"] == "mock")["ctx_max"] > 0
    assert next(e for e in told["engines"] if e["pool_id"] == "absent")["state"] == "failed"
    assert mock["rate_limits"] == {"concurrent_jobs": 1024, "enforced": True}
    patients = get(keyed, "/v1/capabilities", BATCH_KEY).json()["engines"]
    assert all(e["rate_limits"] == {**LIMITS, "enforced": True} for e in patients)


def test_ORCH_3044_every_route_of_the_api_bears_its_version(keyed):
    paths = [path for name in ("data", "openai", "control") for path in contract(name)["paths"]]
    assert {path for path in paths if not path.startswith("/v1/")} == {"/metrics", "/livez", "/readyz"}
    assert get(keyed, "/v1/models").status == 200
    for path in ("/models", "/v0/models", "/v2/models"):
        assert get(keyed, path).status == 404, path


def test_OC_CTRL_2029_a_stream_closes_behind_its_terminal(keyed):
    task_id, _ = task(keyed)
    address = urllib.parse.urlparse(keyed.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(f"GET /v1/tasks/{task_id}/stream HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
        seen = b""
        while not seen.endswith(b"0\r\n\r\n"):  # the last chunk; heartbeats are 15 s apart
            part = connection.recv(4096)
            assert part, seen
            seen += part
    assert seen.index(b"event: end") > seen.index(b"event: token") > seen.index(b"event: started")
    assert seen[seen.index(b"event: end"):].count(b"event: ") == 1


def test_OC_CTRL_2031_2028_ORCH_3025_failures_name_engine_and_pool_and_whether_to_retry(keyed):
    _, refused = task(keyed, expect=503, model_ref=ABSENT)
    told = refused.json()
    assert (told["code"], told["engine"], told["pool_id"], told["retriable"]) == ("POOL_UNREADY", "native", "absent", True)
    _, refused = task(keyed, expect=404, model_ref="no-such-model")
    assert refused.json()["retriable"] is False and "engine" not in refused.json()
    _, refused = task(keyed, expect=400, max_tokens=10_000_000)
    assert refused.json()["retriable"] is False
    busy, _ = task(keyed, prompt="one", max_tokens=4, detached=True)
    assert request("POST", f"{keyed.url}/v1/tasks/{busy}/cancel", b"", with_key()).status == 204
    name, error, _ = events(keyed, busy)[-1]
    if name == "error":  # else it was quicker than its cancel
        assert (error["code"], error["retriable"], error["engine"]) == ("CANCELED", False, "mock") and error["message"]


@pytest.fixture()
def slow(tmp_path):
    """One slot whose job does not end by itself."""
    (tmp_path / "script.json").write_text(json.dumps({"text": " ".join(["w"] * 2000), "token_delay_ms": 500}))
    with Cluster([mock_pool(mock_script=str(tmp_path / "script.json"))], {"drain_deadline_ms": 100}) as cluster:
        yield cluster.wait_ready()


def test_OC_CTRL_2028_an_error_in_a_stream_names_code_message_retriable_and_engine(slow):
    task_id, _ = task(slow, max_tokens=1000)
    stream = slow.task_events(task_id)
    while next(stream)[0] != "token":
        pass
    assert request("POST", f"{slow.url}/v1/tasks/{task_id}/cancel", b"").status == 204
    name, error, _ = list(stream)[-1]
    assert name == "error" and error["message"]
    assert (error["code"], error["retriable"], error["engine"]) == ("CANCELED", False, "mock")


def test_OC_CTRL_2091_OC_TENANT_1004_queue_leases_and_tenants_are_read_from_live_state(slow):
    def read(what):
        return request("GET", f"{slow.url}/v1/admin/{what}").json()
    assert read("queue")["jobs"] == 0 and read("queue")["jobs_max"] > 0
    running, _ = task(slow, max_tokens=1000, detached=True)
    wait_until(lambda: [(row["slots"], row["in_use"]) for row in read("leases")["leases"]] == [(1, 1)], 20, "the slot is in use")
    assert read("leases")["leases"][0]["state"] == "live"
    waiting, _ = task(slow, max_tokens=1000, detached=True)
    queue = read("queue")
    assert queue["jobs"] == 1 and queue["bytes"] > 0
    assert [(row["model"], row["priority"], row["waiting"]) for row in queue["classes"]] == [(MODEL, "interactive", 1)]
    assert queue["classes"][0]["tenants"][0]["head"] == waiting
    tenants = request("GET", f"{slow.url}/v1/tenants").json()
    mine = next(row for row in tenants["fairness"] if row["tenant"] == "default")
    assert (mine["model"], mine["priority"], mine["waiting"], mine["in_flight"], mine["outside_bound"]) == (MODEL, "interactive", 1, 1, False)
    assert mine["v"] + mine["rho"] > 0 and "others_age_ms" in tenants
    for task_id in (waiting, running):
        assert request("POST", f"{slow.url}/v1/tasks/{task_id}/cancel", b"").status == 204
    assert read("queue")["jobs"] == 0
    wait_until(lambda: [row["in_use"] for row in read("leases")["leases"]] == [0], 20, "the slot is free")


def test_OC_CTRL_2083_a_task_for_a_restarting_replica_waits_and_is_served(tmp_path):
    (tmp_path / "script.json").write_text(json.dumps({"text": "a b"}))
    pool = mock_pool(mock_script=str(tmp_path / "script.json"))
    with Cluster([pool], pool_managerd={"restart": {"initial_ms": 1500}}) as cluster:
        cluster.wait_ready()
        os.kill(cluster.ready_replica()["pid"], signal.SIGKILL)
        wait_until(lambda: b"backoff" in request("GET", cluster.url + "/readyz").body, 20, "the gateway knows")
        task_id, _ = task(cluster)
        assert list(cluster.task_events(task_id))[-1][0] == "end"
        assert cluster.ready_replica()["restarts"] == 1


@pytest.mark.parametrize("limit, delays", [("first_token_ms", {"first_token_delay_ms": 60000}), ("idle_ms", {"token_delay_ms": 60000}),
                                           ("wall_ms", {"token_delay_ms": 50})])
def test_ORCH_3016_OC_CORE_1022_each_watchdog_ends_a_job_that_runs(tmp_path, limit, delays):
    (tmp_path / "script.json").write_text(json.dumps({"text": " ".join(["w"] * 3000), **delays}))
    with Cluster([mock_pool(mock_script=str(tmp_path / "script.json"))], {"watchdog": {limit: 300}, "drain_deadline_ms": 100}) as cluster:
        cluster.wait_ready()
        name, error, _ = list(cluster.task_events(task(cluster, max_tokens=2000)[0]))[-1]
        assert (name, error["code"]) == ("error", "DECODE_TIMEOUT"), error
        wait_until(lambda: all(r["running"] == 0 for r in cluster.replicas()), 20, "its slot is free")


@pytest.fixture()
def native():
    with Cluster([native_pool(slots=1, threads=1, ctx=512)]) as cluster:
        yield cluster.wait_ready()


def move(cluster, state):
    return request("POST", cluster.url + "/v1/admin/models/state", {"name": MODEL_NAME, "digest": f"sha256:{MODEL_SHA256}", "state": state}).status


def states(cluster):
    return {dict(labels)["state"] for (name, labels), value in cluster.metrics().items() if name == "model_state" and value == 1}


def refusal(cluster, **changes):
    return task(cluster, expect=403, model_ref=MODEL_NAME, **changes)[1].json()["code"]


def served(cluster, **changes):
    return list(cluster.task_events(task(cluster, model_ref=MODEL_NAME, **changes)[0]))[-1][0] == "end"


def loaded_again(cluster):
    """A retired model was unloaded (OC-MODEL-1008): what brings it back begins to load it."""
    wait_until(lambda: {r["state"] for r in cluster.replicas()} == {"stopped"}, 60, "the retired model is unloaded")
    assert request("POST", cluster.url + "/v1/admin/models/rollback", {"name": MODEL_NAME}).status == 200
    cluster.wait_ready()


def test_ORCH_3069_3073_OC_MODEL_1001_1004_1005_1006_states_are_exported_and_bind_requests(native):
    session = str(uuid.uuid4())
    assert states(native) == {"active"} and served(native, session_id=session)
    assert move(native, "deprecated") == 200 and states(native) == {"deprecated"}
    assert refusal(native) == refusal(native, session_id=str(uuid.uuid4())) == "MODEL_DEPRECATED"
    assert served(native, session_id=session), "a session that it has served goes on"
    assert move(native, "retired") == 200 and states(native) == {"retired"}
    assert refusal(native, session_id=session) == "MODEL_DEPRECATED"
    assert native.metric_sum("tasks_rejected_total", reason="MODEL_DEPRECATED") == 3
    loaded_again(native)
    assert states(native) == {"deprecated"} and served(native, session_id=session), "what was before the last change holds again"
    assert move(native, "active") == 200 and served(native)


def test_OC_MODEL_1007_a_state_holds_after_a_restart(native):
    assert move(native, "retired") == 200
    native.kill("orchestratord").wait()
    native.start_gateway()
    # Its only model is retired: it lives, and nothing is ready.
    wait_until(lambda: request("GET", native.url + "/livez").status == 200, 20, "the gateway lives")
    wait_until(lambda: states(native) == {"retired"}, 20, "the state is read")
    assert refusal(native) == "MODEL_DEPRECATED"


def test_ORCH_2103_OC_CTRL_2001_the_health_of_a_pool_is_that_of_its_replicas(keyed):
    def health(pool):
        return request("GET", f"{keyed.manager_url}/v1/pools/{pool}/health")
    well = health("mock").json()
    assert (well["live"], well["ready"], well["draining"], well["replicas_ready"], well["last_error"]) == (True, True, False, 1, "")
    ill = health("absent").json()
    assert (ill["ready"], ill["replicas_ready"]) == (False, 0) and "no-such-file.gguf" in ill["last_error"]
    assert health("nothing").status == 404
    operate = f"{keyed.manager_url}/v1/pools/mock"
    assert request("POST", operate + "/drain?wait=true", {"deadline_ms": 5000}).status == 200
    assert not health("mock").json()["ready"] and health("mock").json()["replicas_ready"] == 0
    assert request("POST", operate + "/undrain?wait=true", {}).status == 200
    assert health("mock").json()["ready"]
    keyed.wait_ready()


def test_ORCH_3001_a_worker_serves_the_one_model_of_its_pool():
    with Cluster([mock_pool(id=name, model={"name": f"{name}-model"}) for name in ("red", "blue")]) as cluster:
        wait_until(lambda: len([r for r in cluster.replicas() if r["state"] == "ready"]) == 2, 30, "both are ready")
        cluster.wait_ready()
        workers = {r["pool_id"]: (r["model_name"], r["pid"]) for r in cluster.replicas()}
        assert {pool: name for pool, (name, _) in workers.items()} == {"red": "red-model", "blue": "blue-model"}
        assert len({pid for _, pid in workers.values()}) == 2
        for pool in ("red", "blue"):
            replies = [wait_until(lambda: (r := cluster.chat("Hi", model=f"{pool}-model")).status == 200 and r, 10, "it serves") for _ in range(4)]
            assert {r.headers["x-orch-replica"].split("-")[0] for r in replies} == {pool}


def test_ORCH_2104_3007_3022_OC_CTRL_2004_OC_NUM_1003_replicas_that_differ_in_their_context_alone_are_one_set():
    """One replica each, the same file and build; the context is no part of the key."""
    pools = [native_pool(id=name, ctx=ctx, slots=1, threads=1) for name, ctx in (("small", 256), ("large", 512))]
    with Cluster(pools) as cluster:
        wait_until(lambda: len([r for r in cluster.replicas() if r["state"] == "ready"]) == 2, 60, "both are ready")

        def rows():
            sets = request("GET", cluster.url + "/v1/replicasets").json()
            return [(s["engine"], s["accelerators"], s["state"], s["replicas"], s["slots_total"]) for s in sets]
        wait_until(lambda: rows() == [("native", ["cpu"], "ready", 2, 2)], 20, "they are listed as one")
        version = request("GET", cluster.url + "/v1/replicasets").json()[0]["engine_version"]
        assert re.fullmatch(r"[0-9.]+\+numerics\.\d+\.tokens\.\d+\.unicode\.15\.1\.0", version), f"OC-ENGINE-1031: {version}"
        assert {r["numeric_class"] for r in cluster.replicas()} == {"X"}, "which nobody has asked for"

        def use():
            page = parse_metrics(request("GET", cluster.manager_url + "/metrics").body.decode())
            return [value for (name, _), value in page.items() if name == "kv_cache_usage_ratio"]

        def told_while_a_story_is_told():
            told = [use() for _ in cluster.chat_events("Write a very long story.", max_tokens=180)]
            return any(len(each) == 2 and 0 < max(each) <= 1 for each in told)
        wait_until(told_while_a_story_is_told, 60, "pages in use are exported")
        assert request("POST", f"{cluster.manager_url}/v1/pools/small/drain?wait=true", {"deadline_ms": 2000}).status == 200
        wait_until(lambda: sum(slots for _, _, _, _, slots in rows()) == 1, 20, "slots of a replica that is not ready do not count")
