"""kill -9 of each process under a running stream (issue: one typed error, no orphan, no work left over)."""

import os
import pathlib
import signal
import threading
import time

import pytest

from orch_cluster import Cluster, native_pool, wait_until

LONG = {"max_tokens": 1500, "temperature": 1.0, "seed": 11}


@pytest.fixture()
def own_cluster():
    with Cluster([native_pool()], pool_managerd={"restart": {"initial_ms": 100}}) as running:
        yield running.wait_ready()


def alive(pid):
    try:
        return "State:\tZ" not in pathlib.Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


class LongStream:
    """Reads a long answer in the background; `started` is set by its first token."""

    def __init__(self, cluster, **changes):
        self.events, self.started, self.error = [], threading.Event(), None
        self._thread = threading.Thread(target=self._read, args=(cluster, {**LONG, **changes}), daemon=True)
        self._thread.start()
        assert self.started.wait(30), self.error

    def _read(self, cluster, options):
        try:
            for _, data, _ in cluster.chat_events("Write a very long story about a ship.", **options):
                self.events.append(data)
                if isinstance(data, dict) and any(c.get("delta", {}).get("content") for c in data.get("choices", [])):
                    self.started.set()
        except Exception as error:  # pylint: disable=broad-except  # the killed gateway's connection
            self.error = error
            self.started.set()

    def finish(self, seconds=15):
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the stream did not end"
        return self.events


def text_of(events):
    return "".join(c["delta"].get("content") or "" for e in events if isinstance(e, dict) for c in e.get("choices", []))


def test_M2_kill_9_of_workerd_mid_stream_and_the_stream_goes_on(own_cluster):
    whole = [d for _, d, _ in own_cluster.chat_events("Write a very long story about a ship.", **LONG)]
    before = own_cluster.ready_replica()
    stream = LongStream(own_cluster)
    os.kill(before["pid"], signal.SIGKILL)
    events = stream.finish(60)
    assert not [e for e in events if isinstance(e, dict) and "error" in e]
    assert text_of(events) == text_of(whole), "the same bytes, without a gap or a repetition"
    reply = own_cluster.chat("Hello again", timeout=60)
    assert reply.status == 200 and reply.json()["choices"][0]["message"]["content"].strip()
    after = own_cluster.ready_replica()
    assert after["pid"] != before["pid"] and after["restarts"] == before["restarts"] + 1


def test_kill_9_of_orchestratord_leaves_no_worker_generating_after_a_second(own_cluster):
    stream = LongStream(own_cluster)
    own_cluster.kill("orchestratord").wait()
    killed = time.monotonic()
    wait_until(lambda: all(r["running"] == 0 for r in own_cluster.replicas()), 1.0, "no job runs one second after the kill")
    print(f"idle after {time.monotonic() - killed:.3f} s")
    stream.finish()
    own_cluster.start_gateway()
    own_cluster.wait_ready()
    assert own_cluster.chat("Hello again").status == 200


def test_L8_kill_9_of_pool_managerd_leaves_no_orphan():
    with Cluster([native_pool()], pool_managerd={"lease": {"orphan_grace_ms": 1000}}) as cluster:
        cluster.wait_ready()
        pid = cluster.ready_replica()["pid"]
        stream = LongStream(cluster, max_tokens=200)
        cluster.kill("pool-managerd").wait()
        killed = time.monotonic()
        wait_until(lambda: not alive(pid), 4.0, "the worker ended when its orphan grace was over")
        lived = time.monotonic() - killed
        print(f"ended {lived:.3f} s after its manager")
        assert lived > 0.5, "the worker did not wait for a manager that comes back"
        cluster.start_manager()
        cluster.wait_ready()
        stream.finish(60)
        assert cluster.chat("Hello again").status == 200


def test_L8_a_restarted_pool_managerd_adopts_its_worker_and_the_stream_goes_on(own_cluster):
    before = own_cluster.ready_replica()
    stream = LongStream(own_cluster, max_tokens=700)
    own_cluster.kill("pool-managerd").wait()
    heard = len(stream.events)
    wait_until(lambda: len(stream.events) > heard + 5, 10, "the stream goes on without a manager")
    own_cluster.start_manager()
    after = wait_until(own_cluster.ready_replica, 15, "the replica is ready again")
    assert after["pid"] == before["pid"] and after["inc"] == before["inc"], "adopted, not restarted"
    assert after["running"] == 1, "its table and what runs under it were taken over"
    own_cluster.wait_ready()
    assert own_cluster.chat("Hello beside it", timeout=60).status == 200, "new work is granted on the adopted worker"
    events = stream.finish(120)
    assert stream.error is None and events[-1] == "[DONE]", events[-3:]
    assert not [e for e in events if isinstance(e, dict) and "error" in e], "the client noticed nothing"
    own_cluster.stop()
    assert not alive(before["pid"]), "a clean stop ends the adopted worker too"


def test_disconnect_stops_the_work_within_a_second(own_cluster):
    stream = own_cluster.chat_events("Write a very long story.", **LONG)
    for _ in range(3):
        next(stream)
    stream.close()
    wait_until(lambda: all(r["running"] == 0 for r in own_cluster.replicas()), 1.0, "the disconnected job stopped")


def test_sigterm_ends_everything_cleanly(own_cluster):
    pid = own_cluster.ready_replica()["pid"]
    own_cluster.stop()
    assert own_cluster.processes["orchestratord"].returncode == 0
    assert own_cluster.processes["pool-managerd"].returncode == 0
    assert not alive(pid)
