"""Every kind of bad request gets a typed error that names the field and the limit, and the gateway goes on serving."""

import json
import socket
import urllib.parse

import pytest

from orch_cluster import MODEL_NAME, MODEL_SHA256, request


def chat_body(**changes):
    return {"model": MODEL_NAME, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, **changes}


CHAT = [
    ("unknown field", chat_body(flavour="mint"), 400, "flavour"),
    ("wrong type", chat_body(max_tokens="four"), 400, "max_tokens"),
    ("out of range", chat_body(temperature=9), 400, "temperature"),
    ("negative", chat_body(max_tokens=-1), 400, "max_tokens"),
    ("no messages", chat_body(messages=[]), 400, "messages"),
    ("empty content", chat_body(messages=[{"role": "user", "content": ""}]), 400, "messages[0].content"),
    ("unknown role", chat_body(messages=[{"role": "robot", "content": "x"}]), 400, "messages[0].role"),
    ("missing model", {"messages": [{"role": "user", "content": "Hi"}]}, 400, "model"),
    ("too many choices", chat_body(n=9), 400, "n"),
    ("penalty out of range", chat_body(presence_penalty=2.5), 400, "presence_penalty"),
    ("bias for no token id", chat_body(logit_bias={"the": 1}), 400, "logit_bias"),
    ("bias beyond the vocabulary", chat_body(logit_bias={"999999": 1}), 400, "logit_bias"),
    ("likeliest without asking", chat_body(top_logprobs=2), 400, "top_logprobs"),
    ("too many of the likeliest", chat_body(logprobs=True, top_logprobs=21), 400, "top_logprobs"),
]

TASK = [
    ("unknown field", {"colour": 1}, 400, "colour"),
    ("bad uuid", {"task_id": "abc"}, 400, "task_id"),
    ("unknown enum", {"priority": "urgent"}, 400, "priority"),
    ("wrong type", {"max_tokens": 1.5}, 400, "max_tokens"),
    ("empty prompt", {"prompt": ""}, 400, "prompt"),
    ("zero tokens", {"max_tokens": 0}, 400, "max_tokens"),
]


@pytest.mark.parametrize("name,body,status,field", CHAT, ids=[c[0] for c in CHAT])
def test_chat_refuses(cluster, name, body, status, field):
    reply = request("POST", cluster.url + "/v1/chat/completions", body)
    assert reply.status == status, reply.body
    error = reply.json()["error"]
    assert error["code"] == "INVALID_PARAMS" and error["param"] == field, error


@pytest.mark.parametrize("name,changes,status,field", TASK, ids=[c[0] for c in TASK])
def test_ORCH_2006_task_refuses(cluster, name, changes, status, field):
    reply = request("POST", cluster.url + "/v1/tasks", cluster.task_body(**{"prompt": "Hi", **changes}))
    assert reply.status == status, reply.body
    assert reply.json()["code"] == "INVALID_PARAMS" and reply.json()["field"] == field, reply.body
    assert reply.headers["x-correlation-id"]


def test_broken_json_and_broken_utf8(cluster):
    for body in (b"{", b'{"model": "\xff\xfe"}', b"[]", b""):
        reply = request("POST", cluster.url + "/v1/chat/completions", body)
        assert reply.status == 400, (body, reply.body)


def test_ten_megabytes_are_refused_with_the_limit(cluster):
    body = json.dumps(chat_body(messages=[{"role": "user", "content": "x" * 10_000_000}])).encode()
    address = urllib.parse.urlparse(cluster.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as raw:
        raw.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode())
        try:
            raw.sendall(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the refusal may arrive before the body is sent
        head = raw.recv(65536).decode()
    assert head.startswith("HTTP/1.1 413"), head
    assert "1048576" in head


def test_wrong_route_and_method(cluster):
    assert request("GET", cluster.url + "/v1/nothing").status == 404
    assert request("GET", cluster.url + "/v1/tasks").status == 405


def test_correlation_id_is_echoed_only_when_it_is_clean(cluster):
    good = request("GET", cluster.url + "/livez", headers={"X-Correlation-Id": "abc-123"})
    assert good.headers["x-correlation-id"] == "abc-123"
    bad = request("GET", cluster.url + "/livez", headers={"X-Correlation-Id": "a b<script>"})
    assert bad.headers["x-correlation-id"] not in ("", "a b<script>")


CHANGES = [("POST", "/v1/admin/models/state", {"name": MODEL_NAME, "digest": f"sha256:{MODEL_SHA256}", "state": "retired"}),
           ("POST", "/v1/admin/models/rollback", {"name": MODEL_NAME}), ("PUT", "/v1/tenants", {"tenants": [{"name": "page"}]})]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""])
def test_OC_CTRL_2075_what_a_page_can_post_unasked_administers_nothing(cluster, kind):
    before = [request("GET", cluster.url + path).json() for path in ("/v1/admin/models", "/v1/tenants")]
    for method, path, body in CHANGES:
        reply = request(method, cluster.url + path, body, {"content-type": kind})
        assert reply.status == 400 and (reply.json()["code"], reply.json()["field"]) == ("INVALID_PARAMS", "Content-Type"), reply.body
    after = [request("GET", cluster.url + path).json() for path in ("/v1/admin/models", "/v1/tenants")]
    assert after[0] == before[0] and [t["name"] for t in after[1]["tenants"]] == [t["name"] for t in before[1]["tenants"]]
    reply = request("POST", cluster.manager_url + "/v1/pools/default/undrain", {}, {"content-type": kind})
    assert reply.status == 400 and reply.json()["field"] == "Content-Type", reply.body


def test_OC_CTRL_2075_without_keys_no_page_but_our_own_address_asks_for_anything(cluster):
    here = cluster.url.removeprefix("http://")
    chat = {"model": MODEL_NAME, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    # Where the browser believes to be, and where the page is from.
    for host, origin in [(here, "http://evil.example"), (here, "null"), ("evil.example", "http://evil.example")]:
        page = {"host": host, "origin": origin}
        for method, url in [("POST", "/v1/tasks"), ("POST", "/v1/tasks/x/cancel"), ("DELETE", "/v1/sessions/x"), ("PUT", "/v1/tenants")]:
            reply = request(method, cluster.url + url, cluster.task_body("Hi"), page)
            assert reply.status == 400 and (reply.json()["code"], reply.json()["field"]) == ("INVALID_PARAMS", "Origin"), reply.body
        reply = request("POST", cluster.url + "/v1/chat/completions", chat, page)
        assert reply.status == 400 and reply.json()["error"]["param"] == "Origin", reply.body
        reply = request("POST", cluster.manager_url + "/v1/pools/default/undrain", {}, page)
        named = "Host" if host == "evil.example" else "Origin"  # a manager, which knows no keys, asks for the name first
        assert reply.status == 400 and reply.json()["field"] == named, reply.body
    assert request("POST", cluster.url + "/v1/chat/completions", chat, {"origin": cluster.url}).status == 200
    assert request("POST", cluster.url + "/v1/chat/completions", chat, {"content-type": "application/x-www-form-urlencoded"}).status == 200, "curl -d"


def test_OC_CTRL_2075_without_keys_nothing_is_read_by_a_name_that_nobody_gave_this_host(cluster):
    """A page of evil.example, whose name server was made to say 127.0.0.1: its browser sends no Origin with a GET."""
    for path in ("/v1/models", "/v1/capabilities", "/v1/admin/queue", "/metrics", "/livez", "/readyz"):
        reply = request("GET", cluster.url + path, headers={"host": "evil.example:8080"})
        assert reply.status == 400 and b'"Host"' in reply.body and b"http.hosts" in reply.body, (path, reply.body)
        for known in ("localhost", "a.localhost:8080", "[::1]:8080", "Gateway.example:8080"):
            assert request("GET", cluster.url + path, headers={"host": known}).status == 200, (path, known)
    for path in ("/v1/replicas", "/v1/pools/default/health", "/v1/operations", "/metrics", "/livez", "/readyz"):
        reply = request("GET", cluster.manager_url + path, headers={"host": "evil.example:8090"})
        assert reply.status == 400 and reply.json()["field"] == "Host" and "http.hosts" in reply.json()["message"], (path, reply.body)
        for known in ("localhost", "127.0.0.1:8090", "[::1]:8090", "Manager.example:8090"):
            assert request("GET", cluster.manager_url + path, headers={"host": known}).status == 200, (path, known)
    posted = request("POST", cluster.manager_url + "/v1/pools/default/undrain", {}, {"host": "evil.example:8090"})
    assert posted.status == 400 and posted.json()["field"] == "Host", posted.body


def test_it_still_serves(cluster):
    assert cluster.chat("Hello").status == 200
