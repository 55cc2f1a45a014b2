"""Asked to stop, a process ends with 0, however its last calls and channels stand (STOPS times each; 3)."""

import contextlib
import os
import signal
import subprocess
import threading

import grpc
import pytest

from orch_cluster import Cluster, binary_dir, mock_pool, request, wait_until

STOPS = int(os.environ.get("STOPS", "3"))


@contextlib.contextmanager
def adapter(directory, *options):
    """adapterd under a lifeline of ours; yields the process once it serves its socket."""
    lifeline, held = os.pipe()
    command = [binary_dir() / "adapterd", "--model-name", "m", "--listen", f"unix:{directory}/w/s.sock", "--lifeline-fd", str(lifeline), *options]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=[lifeline])
    try:
        os.close(lifeline)
        os.write(held, b"0" * 32 + b"\n")
        yield process, held
    finally:
        with contextlib.suppress(OSError):
            os.close(held)
        process.kill()
        process.communicate()


def serves(process, directory):
    wait_until(lambda: (directory / "w/s.sock").exists() or process.poll() is not None, 10, "it listens")
    assert process.poll() is None, process.stderr.read()


def post(cluster):
    body = cluster.task_body("Hello", model_ref="mock-model", max_tokens=900)
    return request("POST", cluster.url + "/v1/tasks", body).status == 202


def test_OC_CHAOS_1003_orchestratord_with_streams_that_run_ends_with_0():
    with Cluster([mock_pool(slots=4)], orchestratord={"drain_deadline_ms": 50}) as cluster:
        for _ in range(STOPS):
            cluster.wait_ready()
            assert all([post(cluster) for _ in range(6)])
            wait_until(lambda: cluster.metric_sum("tokens_out_total") > 0, 20, "a task runs")
            process = cluster.kill("orchestratord", signal.SIGTERM)
            assert process.wait(20) == 0, cluster.log_tail("orchestratord")
            cluster.start_gateway()


def test_OC_CHAOS_1003_pool_managerd_with_calls_that_run_ends_with_0():
    with Cluster([mock_pool(slots=4)]) as cluster:
        for _ in range(STOPS):
            cluster.wait_ready()
            assert post(cluster)
            process = cluster.kill("pool-managerd", signal.SIGTERM)
            assert process.wait(20) == 0, cluster.log_tail("pool-managerd")
            cluster.start_manager()


@contextlib.contextmanager
def callers(target, threads=4, at_a_time=32):
    """Threads that never leave the manager without an unanswered ListReplicas; yields the codes of the answers."""
    over, codes = threading.Event(), []

    def call():
        with grpc.insecure_channel(target) as channel:
            method = channel.unary_unary("/orch.v1.PoolManager/ListReplicas", request_serializer=bytes, response_deserializer=bytes)
            while not over.is_set():
                asked = [method.future(b"", timeout=60) for _ in range(at_a_time)]
                codes.extend(one.code().name for one in asked)
    pool = [threading.Thread(target=call, daemon=True) for _ in range(threads)]
    for thread in pool:
        thread.start()
    try:
        yield codes
    finally:
        over.set()
        for thread in pool:
            thread.join()


def test_OC_CHAOS_1003_pool_managerd_that_is_asked_without_a_pause_ends_with_0():
    with Cluster([mock_pool()]) as cluster:
        for _ in range(2 * STOPS):
            cluster.wait_ready()
            with callers(f"unix:{cluster.dir}/pool/manager.sock") as codes:
                try:
                    wait_until(lambda: codes.count("OK") > 100, 20, "calls are answered")
                    cluster.kill("pool-managerd", signal.SIGTERM)
                    process = cluster.kill("pool-managerd", signal.SIGINT)  # at once: nothing is drained while calls come
                    assert process.wait(20) == 0, cluster.log_tail("pool-managerd")
                finally:
                    cluster.kill("pool-managerd")  # else its callers would wait for an answer
            cluster.start_manager()


@pytest.mark.parametrize("dialect", [("--dialect", "mock"), ("--dialect", "llamacpp", "--engine-url", "http://127.0.0.1:1")])
def test_OC_CHAOS_1003_adapterd_ends_with_0(tmp_path_factory, dialect):
    for _ in range(STOPS):
        directory = tmp_path_factory.mktemp("a")
        with adapter(directory, *dialect) as (process, _):
            serves(process, directory)
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0, process.stderr.read()


@pytest.mark.parametrize("options, code, word", [
    (("--dialect", "morse"), 64, "--dialect"),
    (("--dialect", "mock", "--slots", "5000"), 64, "--slots"),
    (("--dialect", "mock", "--script", "absent.json"), 64, "absent.json"),
    (("--dialect", "llamacpp", "--engine-url", "ftp://engine"), 64, "--engine-url"),
    (("--dialect", "llamacpp", "--engine-url", "http://e", "--engine-key-file", "absent"), 64, "--engine-key-file"),
    (("--dialect", "mock", "--listen", "0.0.0.0:0"), 64, "--listen"),
])
def test_adapterd_names_what_it_cannot_use(tmp_path, options, code, word):
    with adapter(tmp_path, *options) as (process, _):
        assert process.wait(10) == code
        assert word in process.stderr.read().decode()


def test_adapterd_says_that_its_socket_is_in_use(tmp_path):
    with adapter(tmp_path, "--dialect", "mock") as (first, _):
        serves(first, tmp_path)
        with adapter(tmp_path, "--dialect", "mock") as (second, _):
            assert second.wait(10) == 74
            assert "in use" in second.stderr.read().decode()


def test_L8_adapterd_ends_with_0_when_its_manager_is_gone(tmp_path):
    with adapter(tmp_path, "--dialect", "mock") as (process, held):
        serves(process, tmp_path)
        os.close(held)
        assert process.wait(10) == 0
