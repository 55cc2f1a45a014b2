"""Whose a task is, what a session may use, and who makes way: through keys, headers and events of real processes."""

import contextlib
import json
import socket
import sqlite3
import urllib.parse
import uuid

import pytest

from orch_cluster import Cluster, ClusterError, mock_pool, request, wait_until

MODEL = "mock-model"
KEYS = {"operator": "operator-key-0123456789", "red": "red-key-0123456789abcdef", "blue": "blue-key-0123456789abcdef"}


def as_(who):
    return {"authorization": f"Bearer {KEYS[who]}"}


def task(cluster, who=None, expect=202, **changes):
    body = {"task_id": str(uuid.uuid4()), "model_ref": MODEL, "prompt": "one two", "max_tokens": 4, **changes}
    reply = request("POST", cluster.url + "/v1/tasks", body, as_(who) if who else None)
    assert reply.status == expect, reply.body
    return body["task_id"], reply


def stream(cluster, task_id, who=None):
    return list(cluster.task_events(task_id, headers=as_(who) if who else None))


def mock_cluster(tmp_path, script, gateway, **manager):
    path = tmp_path / "script.json"
    path.write_text(json.dumps(script))
    return Cluster([mock_pool(mock_script=str(path))], orchestratord=gateway, pool_managerd=manager)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Keys of two tenants and of an operator."""
    folder = tmp_path_factory.mktemp("keys")
    for name, key in KEYS.items():
        (folder / name).write_text(key)
    gateway = {"auth": {"key_files": [str(folder / "operator")]},
               "tenants": [{"name": name, "key_files": [str(folder / name)]} for name in ("red", "blue")],
               "sessions": {"turns": 2, "tokens": 100}}
    with mock_cluster(folder, {"text": "a b c d", "token_delay_ms": 1}, gateway) as cluster:
        yield cluster.wait_ready()


def test_OC_TENANT_1006_a_task_is_its_tenants_alone(shared):
    mine, _ = task(shared, "red", detached=True)
    assert stream(shared, mine, "red")[-1][0] == "end"
    assert stream(shared, mine, "operator")[-1][0] == "end"
    with pytest.raises(ClusterError, match="HTTP 404.*NOT_FOUND"):
        stream(shared, mine, "blue")
    for method, route in (("GET", "explain"), ("POST", "cancel")):
        url = f"{shared.url}/v1/tasks/{mine}/{route}"
        assert request(method, url, headers=as_("blue")).status == 404
        assert request(method, url).status == 401
        assert request(method, url, headers=as_("red")).status in (200, 204)


def test_OC_CTRL_2075_where_keys_are_configured_the_key_decides_and_not_the_page(shared):
    page = {"origin": "https://chat.example"}
    body = shared.task_body("Hi", model_ref=MODEL, max_tokens=2)
    assert request("POST", shared.url + "/v1/tasks", body, page).status == 401
    assert request("POST", shared.url + "/v1/tasks", body, {**as_("red"), **page}).status == 202
    refused = request("PUT", shared.url + "/v1/tenants", {"tenants": []}, {**as_("operator"), "content-type": "text/plain"})
    assert refused.status == 400 and refused.json()["field"] == "Content-Type", refused.body


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    """`red` may have one job, `blue` asks once in a while; jobs of `red` last until they are canceled. Bodies are small."""
    folder = tmp_path_factory.mktemp("hasty")
    for name, key in KEYS.items():
        (folder / name).write_text(key)
    quotas = {"red": {"concurrent_jobs": 1}, "blue": {"requests_per_second": 1, "request_burst": 1}}
    gateway = {"auth": {"key_files": [str(folder / "operator")]}, "http": {"body_bytes_max": 1024},
               "tenants": [{"name": name, "key_files": [str(folder / name)], **quota} for name, quota in quotas.items()]}
    with mock_cluster(folder, {"text": "w " * 2000, "token_delay_ms": 1000}, gateway) as cluster:
        yield cluster.wait_ready()


BODIES = {"too large": b"x" * 1025, "no JSON": b"{", "no task": b"{}"}


def refused_at(cluster, who, body, path="/v1/tasks"):
    """Status, code and field of a refusal."""
    reply = request("POST", cluster.url + path, body, as_(who) if who else None)
    told = reply.json().get("error", reply.json())
    return reply.status, told["code"], told.get("field", told.get("param"))


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/chat/completions"])
def test_OC_ADMIT_1002_1005_by_its_head_a_request_is_judged_before_its_body(hasty, path):
    for fault, body in BODIES.items():
        assert refused_at(hasty, None, body, path)[:2] == (401, "UNAUTHENTICATED"), fault
        status, code, _ = refused_at(hasty, "blue", body, path)
        assert (status, code) == ((413, "PAYLOAD_TOO_LARGE") if fault == "too large" else (400, "INVALID_PARAMS")), "which costs nothing"
    first, _ = task(hasty, "red", detached=True, max_tokens=500)
    try:
        for fault, body in BODIES.items():
            assert refused_at(hasty, "red", body, path) == (429, "ADMISSION_REJECT", "concurrent_jobs"), fault
    finally:
        assert request("POST", f"{hasty.url}/v1/tasks/{first}/cancel", headers=as_("red")).status == 204
    wait_until(lambda: refused_at(hasty, "red", BODIES["no task"], path)[0] == 400, 10, "its place is free again")


def test_OC_ADMIT_1002_over_the_rate_a_body_that_is_too_large_hears_of_the_rate(hasty):
    def over():  # unless a second passes in between
        request("POST", hasty.url + "/v1/tasks", hasty.task_body("Hi", model_ref=MODEL, max_tokens=1), as_("blue"))
        reply = request("POST", hasty.url + "/v1/tasks", BODIES["too large"], as_("blue"))
        return reply if reply.status == 429 else None
    reply = wait_until(over, 20, "the rate is spent")
    assert reply.json()["field"] == "requests_per_second" and 0 < int(reply.headers["x-backoff-ms"]) <= 1000, reply.body


@contextlib.contextmanager
def head_alone(cluster, who):
    """A connection on which a task's head was sent, and nothing of its body."""
    address = urllib.parse.urlparse(cluster.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(f"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEYS[who]}\r\nContent-Length: 100\r\n\r\n".encode())
        yield connection


def test_OC_ADMIT_1005_a_connection_that_dies_while_its_body_is_on_its_way_returns_its_place(hasty):
    def answer():
        return refused_at(hasty, "red", BODIES["no task"])
    assert answer()[0] == 400, "there is a place"
    with head_alone(hasty, "red"):
        wait_until(lambda: answer() == (429, "ADMISSION_REJECT", "concurrent_jobs"), 10, "the head has the place")
    wait_until(lambda: answer()[0] == 400, 10, "it is free again")


def test_OC_ADMIT_1006_a_repeated_key_finds_its_job_though_there_is_no_place(hasty):
    body = {"task_id": str(uuid.uuid4()), "model_ref": MODEL, "prompt": "one two", "max_tokens": 500, "detached": True}
    keyed = {**as_("red"), "idempotency-key": "once-and-again"}
    assert request("POST", hasty.url + "/v1/tasks", body, keyed).status == 202
    assert refused_at(hasty, "red", json.dumps(body).encode())[2] == "concurrent_jobs", "it is under way"
    again = request("POST", hasty.url + "/v1/tasks", body, keyed)
    assert again.status == 202 and again.json()["task_id"] == body["task_id"] and again.headers["idempotent-replayed"] == "true"
    assert request("POST", f"{hasty.url}/v1/tasks/{body['task_id']}/cancel", headers=as_("red")).status == 204


def test_OC_TENANT_1006_admin_routes_want_an_operators_key(shared):
    for route in ("/v1/admin/queue", "/v1/admin/leases", "/v1/admin/models", "/v1/tenants"):
        assert request("GET", shared.url + route, headers=as_("red")).status == 403, route
        assert request("GET", shared.url + route, headers=as_("operator")).status == 200, route
    refused = request("POST", shared.url + "/v1/admin/models/state", {"name": MODEL, "digest": "", "state": "retired"}, as_("red"))
    assert refused.status == 403 and refused.json()["code"] == "FORBIDDEN"
    task(shared, "red")  # it still serves


def test_ORCH_2004_2005_3021_3099_OC_BUDGET_1005_a_session_counts_down_and_is_refused_by_name(shared):
    session = str(uuid.uuid4())
    first, reply = task(shared, "red", session_id=session)
    assert reply.headers["x-budget-turns-remaining"] == "1"
    left = int(reply.headers["x-budget-tokens-remaining"])
    assert 0 < left < 100
    assert stream(shared, first, "red")[-1][0] == "end"
    info = request("GET", f"{shared.url}/v1/sessions/{session}", headers=as_("red")).json()
    assert info["turns"] == 1 and info["live"] == 0 and info["tokens"] > 0 and 0 < info["ttl_ms_remaining"] <= 600_000
    assert info["tokens_budget_remaining"] == 100 - info["tokens"] >= left
    assert request("GET", f"{shared.url}/v1/sessions/{session}", headers=as_("blue")).status == 404
    second, _ = task(shared, "red", session_id=session)
    stream(shared, second, "red")
    _, refused = task(shared, "red", session_id=session, expect=429)
    body = refused.json()
    assert body["code"] == "BUDGET_EXHAUSTED" and body["field"] == "session_id" and body["policy_label"] == "reject"
    assert refused.headers["x-backoff-ms"] == str(body["retry_after_ms"])
    assert request("DELETE", f"{shared.url}/v1/sessions/{session}", headers=as_("blue")).status == 404
    assert request("DELETE", f"{shared.url}/v1/sessions/{session}", headers=as_("red")).status == 204
    task(shared, "red", session_id=session)


def test_OC_BUDGET_1007_a_restart_keeps_the_turns(tmp_path):
    session = str(uuid.uuid4())
    gateway = {"sessions": {"turns": 1}}
    with mock_cluster(tmp_path, {"text": "a b", "token_delay_ms": 1}, gateway) as cluster:
        cluster.wait_ready()
        done, _ = task(cluster, session_id=session)
        assert stream(cluster, done)[-1][0] == "end"
        cluster.kill("orchestratord").wait()
        cluster.start_gateway()
        cluster.wait_ready()
        _, refused = task(cluster, session_id=session, expect=429)
        assert refused.json()["code"] == "BUDGET_EXHAUSTED"


def test_OC_TENANT_1007_tenants_that_were_put_outlive_a_restart(tmp_path):
    gateway = {"tenants": [{"name": "configured", "weight": 2}]}
    with mock_cluster(tmp_path, {"text": "a"}, gateway) as cluster:
        url = "/v1/tenants"
        assert [t["weight"] for t in request("GET", cluster.url + url).json()["tenants"] if t["name"] == "configured"] == [2]
        wanted = {"dry_run": False, "gateways": 1, "tenants": [{"name": "put", "weight": 7, "concurrent_jobs": 3}]}
        assert request("PUT", cluster.url + url, wanted).status in (200, 204)
        assert request("PUT", cluster.url + url, {"tenants": [{"name": "put", "weight": 0}]}).status == 400
        cluster.kill("orchestratord").wait()
        cluster.start_gateway()
        found = {t["name"]: (t["weight"], t["concurrent_jobs"]) for t in request("GET", cluster.url + url).json()["tenants"]}
        assert found["put"] == (7, 3) and "configured" not in found
        cluster.kill("orchestratord").wait()
        (cluster.dir / "gateway/tenants.json").write_text("{")
        with pytest.raises(ClusterError, match="tenants.json"):
            cluster.start_gateway()


def test_OC_PREEMPT_1002_1004_a_batch_task_makes_way_for_a_deadline_and_ends_well(tmp_path):
    """One slot: the batch task has it and is expected to keep it for ten seconds."""
    script = {"text": "a b", "token_delay_ms": 1, "first_token_delay_ms": 2000}
    with mock_cluster(tmp_path, script, {}, lease={"ttl_ms": 2000}) as cluster:
        cluster.wait_ready()
        batch, _ = task(cluster, priority="batch")
        events = cluster.task_events(batch)
        assert next(events)[0] == "started"
        wait_until(lambda: request("GET", f"{cluster.url}/v1/tasks/{batch}/explain").json()["placements"], 5, "it is dispatched")
        urgent, _ = task(cluster, deadline_ms=9000)
        assert stream(cluster, urgent)[-1][0] == "end"
        rest = list(events)
        assert any(name == "metrics" and data.get("preempted") for name, data, _ in rest), rest
        assert "".join(data["t"] for name, data, _ in rest if name == "token").strip() == "a b"
        assert [name for name, _, _ in rest if name in ("end", "error")] == ["end"]
        placements = request("GET", f"{cluster.url}/v1/tasks/{batch}/explain").json()["placements"]
        assert placements[0]["preempted_by"] == urgent and len(placements) == 2
        assert cluster.metric_sum("preemptions_total", mode="hard", engine="mock") == 1
        assert cluster.metric_sum("resumptions_total", engine="mock") == 1


class Numbers:
    """What a value of the journal begins with, as journal_codec.cc writes it."""

    def __init__(self, value):
        assert value[0] == 2, "another format"
        self.rest = memoryview(value)[1:]

    def number(self):
        value = shift = 0
        while True:
            byte, self.rest = self.rest[0], self.rest[1:]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def numbers(self, count):
        return [self.number() for _ in range(count)]

    def text(self):
        size = self.number()
        out, self.rest = bytes(self.rest[:size]).decode(), self.rest[size:]
        return out


def journal_of(killed):
    """{tenant: charge of its tasks that ended} and {tenant: tasks that did not}, from a gateway's file that nobody holds."""
    with contextlib.closing(sqlite3.connect(killed.dir / "gateway/journal.db")) as file:
        rows = file.execute("SELECT admit, terminal FROM job").fetchall()
    ended, unended = {}, {}
    for admit, terminal in rows:
        spec = Numbers(admit)
        spec.numbers(2)  # the task's id
        tenant = spec.text()
        if terminal is None:
            unended[tenant] = unended.get(tenant, 0) + 1
            continue
        _, well, _, tokens_in, tokens_out, _, _, cached = Numbers(terminal).numbers(8)
        assert well == 1, "a task failed"
        ended[tenant] = ended.get(tenant, 0) + tokens_in - cached + 2 * tokens_out
    return ended, unended


def shares(service):
    return {name: value / sum(service.values()) for name, value in service.items()}


def test_OC_FAIR_F2_scraped_shares_of_three_backlogged_tenants_are_the_journals_and_their_weights(tmp_path):
    """Of each tenant more is posted than is served until the look; what runs in the two slots is below 2 % of it all."""
    weights, posted, looked_at = {"one": 1, "two": 2, "four": 4}, {"one": 45, "two": 75, "four": 130}, 115
    keys = {name: f"{name}-key-0123456789abcdef" for name in weights}
    for name, key in keys.items():
        (tmp_path / name).write_text(key)
    gateway = {"tenants": [{"name": n, "key_files": [str(tmp_path / n)], "weight": w} for n, w in weights.items()],
               "queue": {"capacity": 1000, "interactive_capacity": 1000}}
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"token_delay_ms": 1}))  # lengths and words by the seed
    with Cluster([mock_pool(mock_script=str(script), slots=2)], orchestratord=gateway) as cluster:
        cluster.wait_ready()
        tasks = {name: [] for name in weights}
        for seed, (_, name) in enumerate(sorted((n / posted[name], name) for name in weights for n in range(posted[name]))):
            body = cluster.task_body("one two", model_ref=MODEL, seed=seed, max_tokens=100, detached=True, deadline_ms=600000)
            reply = request("POST", cluster.url + "/v1/tasks", body, {"authorization": f"Bearer {keys[name]}"})
            assert reply.status == 202, reply.body
            tasks[name].append(body["task_id"])
        last = list(cluster.task_events(tasks["four"][looked_at], headers={"authorization": f"Bearer {keys['four']}"}))
        assert last[-1][0] == "end", last[-1]
        metrics = cluster.metrics()
        cluster.kill("orchestratord").wait()
        ended, unended = journal_of(cluster)
    journal = shares(ended)
    counted = shares({dict(labels)["tenant"]: v for (name, labels), v in metrics.items() if name == "tenant_service_tokens_total"})
    moving = {dict(labels)["tenant"]: v for (name, labels), v in metrics.items() if name == "admission_share"}
    print(f"journal {journal}, counted {counted}, moving {moving}; not ended {unended}")
    for name, weight in weights.items():
        assert unended.get(name, 0) > 2, f"{name} was not backlogged all the time: {unended}"
        assert abs(journal[name] - weight / 7) <= 0.04, journal
        assert abs(counted[name] - journal[name]) <= 0.02, (counted, journal)
        assert abs(moving[name] - journal[name]) <= 0.02, (moving, journal)


def test_OC_CONFIG_6030_keys_of_tenants_alone_may_bind_any_address(tmp_path):
    (tmp_path / "key").write_text(KEYS["red"])
    open_http = {"http": {"listen": "0.0.0.0:0"}, "grpc": {"listen": "0.0.0.0:0"}}
    with pytest.raises(ClusterError, match="must be a loopback address"):
        with mock_cluster(tmp_path, {"text": "a"}, open_http):
            pass
    with mock_cluster(tmp_path, {"text": "a"}, {**open_http, "tenants": [{"name": "red", "key_files": [str(tmp_path / "key")]}]}) as cluster:
        assert request("GET", cluster.url + "/v1/models").status == 401
        assert request("GET", cluster.url + "/v1/models", headers=as_("red")).status == 200
