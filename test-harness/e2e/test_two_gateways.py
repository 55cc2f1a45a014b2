"""What clients see of two gateways before one pool manager."""

import http.client
import urllib.parse
import uuid

import pytest

from orch_cluster import Cluster, mock_pool, request, sse_events, wait_until

PUBLIC = "https://gateway-1.example.org:8443"
OTHER = "https://gateway-2.example.org:8443"


@pytest.fixture(scope="module")
def gateways():
    """(cluster, URL of the second gateway)."""
    with Cluster([mock_pool()], orchestratord={"http": {"listen": "127.0.0.1:0", "public_url": PUBLIC}}) as cluster:
        cluster.wait_ready()
        yield cluster, cluster.start_second_gateway(http={"listen": "127.0.0.1:0", "public_url": OTHER})


def ask(method, url):
    """(status, headers) of one request; no redirect is followed."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    try:
        connection.request(method, parts.path + "?" + parts.query)
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders())
    finally:
        connection.close()


def test_OC_JOB_1016_any_gateway_sends_a_client_to_the_one_whose_task_it_is(gateways):
    cluster, second = gateways
    body = cluster.task_body(prompt="Hello", model_ref="mock-model", max_tokens=4)
    admitted = request("POST", cluster.url + "/v1/tasks", body)
    assert admitted.status == 202, admitted.body
    links = admitted.json()["links"]
    assert wait_until(lambda: ask("GET", second + links["stream"])[0] == 307, 10, "the second gateway has heard of the first")
    for method, name in (("GET", "stream"), ("POST", "cancel"), ("GET", "explain")):
        status, headers = ask(method, second + links[name])
        assert (status, headers["Location"]) == (307, PUBLIC + links[name])
    # At its own gateway the link is the task.
    events = [name for name, _, _ in sse_events("GET", cluster.url + links["stream"])]
    assert events[-1] == "end"
    assert request("GET", cluster.url + links["explain"]).status == 200


def test_OC_JOB_1016_a_gateway_nobody_knows_and_a_link_without_one(gateways):
    cluster, second = gateways
    body = cluster.task_body(prompt="Hello", model_ref="mock-model", max_tokens=4)
    task = f"/v1/tasks/{body['task_id']}/explain"
    assert request("POST", cluster.url + "/v1/tasks", body).status == 202
    stranger = str(uuid.uuid4())
    unknown = request("GET", f"{second}{task}?gateway={stranger}")
    assert unknown.status == 404 and stranger in unknown.json()["message"]
    broken = request("GET", f"{second}{task}?gateway=first")
    assert broken.status == 400 and broken.json()["field"] == "gateway"
    assert request("GET", second + task).status == 404


def test_OC_JOB_1016_gateways_with_one_address_lead_nobody_in_a_circle(gateways):
    cluster, _ = gateways
    third = cluster.start_second_gateway("orchestratord-3")  # behind the same load balancer as the first, by its address
    body = cluster.task_body(prompt="Hello", model_ref="mock-model", max_tokens=4)
    explain = request("POST", cluster.url + "/v1/tasks", body).json()["links"]["explain"]
    wait_until(lambda: PUBLIC in request("GET", third + explain).json()["message"], 10, "the third gateway has heard of the first")
    assert request("GET", third + explain).status == 404
