"""The gateway's link to a pool manager that goes away and comes back, gateway untouched."""

import json
import signal

import pytest

from orch_cluster import Cluster, mock_pool, wait_until

MODEL = "mock-model"


@pytest.fixture()
def cluster(tmp_path):
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"text": " ".join(f"w{i}" for i in range(20)), "token_delay_ms": 1}))
    with Cluster([mock_pool(mock_script=str(script))]) as running:
        yield running.wait_ready()


def ask(cluster):
    return cluster.chat("Hi", model=MODEL)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_restarted_manager_is_found_again_and_serves(cluster, sig):
    gateway = cluster.processes["orchestratord"].pid
    for _ in range(3):
        assert ask(cluster).status == 200
        before = cluster.ready_replica()["inc"]
        cluster.kill("pool-managerd", sig).wait(20)
        codes = set()

        def gone():
            reply = ask(cluster)
            codes.add("OK" if reply.status == 200 else reply.json()["error"]["code"])
            return "POOL_UNAVAILABLE" in codes
        wait_until(gone, 10, "the gateway sees that the manager is gone")
        assert codes <= {"OK", "WORKER_RESET", "POOL_UNREADY", "POOL_UNAVAILABLE"}, codes  # its worker may die under a job
        cluster.start_manager()
        cluster.wait_ready(20)
        reply = ask(cluster)
        assert reply.status == 200 and reply.json()["choices"][0]["message"]["content"].strip()
        # Asked to stop, it takes its workers along; killed, it finds them again (L8).
        assert (cluster.ready_replica()["inc"] == before) == (sig == signal.SIGKILL)
    assert cluster.processes["orchestratord"].pid == gateway and cluster.processes["orchestratord"].poll() is None


def test_a_manager_that_comes_late_is_waited_for(cluster):
    cluster.kill("pool-managerd", signal.SIGKILL).wait()
    cluster.kill("orchestratord", signal.SIGTERM).wait(20)
    cluster.start_gateway()  # nobody listens on the manager's socket yet
    assert ask(cluster).status in (404, 503)
    cluster.start_manager()
    cluster.wait_ready(20)
    assert ask(cluster).status == 200
