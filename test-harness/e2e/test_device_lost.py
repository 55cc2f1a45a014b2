"""A Vulkan device that is lost under a stream: the job goes on elsewhere, and the loss has its name (OC-DEVICE-1004)."""

import pathlib

from orch_cluster import Cluster, binary_dir, native_pool, request, wait_until

PROMPT = "Write a very long story about a ship."
ANSWER = {"max_tokens": 120, "temperature": 1.0, "seed": 11}
LAVAPIPE = pathlib.Path("/usr/share/vulkan/icd.d/lvp_icd.x86_64.json")


def replica(cluster, pool):
    return next(r for r in cluster.replicas() if r["pool_id"] == pool)


def events_of(cluster, task):
    return [(name, data) for name, data, _ in cluster.task_events(task, timeout=300)]


def text_of(events):
    return "".join(data["t"] for name, data in events if name == "token")


def submit(cluster, pool):
    body = cluster.task_body(PROMPT, deadline_ms=600000, placement={"prefer": [pool]}, **ANSWER)
    reply = request("POST", cluster.url + "/v1/tasks", body)
    assert reply.status == 202, reply.body
    return body["task_id"]


def test_OC_DEVICE_1004_a_stream_goes_on_with_the_same_bytes_when_its_device_is_lost(monkeypatch, tmp_path):
    """A layer of the test tree loses the device when a file appears; the other replica of the model is on the CPU."""
    assert LAVAPIPE.exists(), "mesa-vulkan-drivers is missing (ci/deps.txt)"
    lost = tmp_path / "lost"
    monkeypatch.setenv("VK_ICD_FILENAMES", str(LAVAPIPE))
    monkeypatch.setenv("VK_LAYER_PATH", str(binary_dir().parent / "gen/layers"))
    monkeypatch.setenv("VK_INSTANCE_LAYERS", "VK_LAYER_ORCH_losing_device")
    monkeypatch.setenv("VK_ORCH_LOSE_DEVICE_FILE", str(lost))
    small = {"slots": 1, "ctx": 512, "threads": 1}
    pools = [native_pool(id="gpu", **{**small, "device": "vulkan:0"}), native_pool(id="cpu", **small)]
    # One restart is not waited for: what the manager says of the loss stays to be read.
    with Cluster(pools, pool_managerd={"restart": {"initial_ms": 60000}}) as cluster:
        wait_until(lambda: all(r["state"] == "ready" for r in cluster.replicas()), 180, "both replicas are ready")
        cluster.wait_ready()
        whole = events_of(cluster, submit(cluster, "cpu"))
        assert whole[-1][0] == "end", whole[-1]
        task = submit(cluster, "gpu")
        stream = cluster.task_events(task, timeout=300)
        events, seen = [], 0
        while seen < 3:
            name, data, _ = next(stream)
            events.append((name, data))
            seen += name == "token"
        assert replica(cluster, "gpu")["running"] == 1, "it runs on the device"
        lost.touch()
        events += [(name, data) for name, data, _ in stream]
        name, end = events[-1]
        assert name == "end", events[-1]
        assert end["migrated"] and end["tokens_out"] == whole[-1][1]["tokens_out"], end
        assert not [data for name, data in events if name == "error"]
        assert text_of(events) == text_of(whole), "the same bytes, once"
        gone = replica(cluster, "gpu")
        assert gone["last_error_code"] == "device_lost", gone
        assert b'restart_scheduled_total{pool_id="gpu",reason="device_lost"' in request("GET", cluster.manager_url + "/metrics").body
        assert "code 69" in gone["last_error"] and "VK_ERROR_DEVICE_LOST" in gone["last_error"], gone
