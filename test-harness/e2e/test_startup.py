"""What is wrong at start is said with its name, and nothing is left half-started."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import tempfile

import pytest

from orch_cluster import Cluster, binary_dir, mock_pool, model_file, native_pool, wait_until


def run(name, config, tmp_path):
    path = tmp_path / f"{name}.yaml"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return subprocess.run([binary_dir() / name, "--config", path], capture_output=True, text=True, timeout=20, check=False)


def gateway_config(tmp_path, **changes):
    return {"state_dir": str(tmp_path / "gateway"), "http": {"listen": "127.0.0.1:0"}, "grpc": {"listen": "127.0.0.1:0"},
            "managers": [{"endpoint": f"unix:{tmp_path}/none.sock"}], **changes}


def failed_replica(cluster, seconds=30):
    def failed():
        return next((r for r in cluster.replicas() if r["last_error"]), None)
    return wait_until(failed, seconds, "the replica says why it is not ready")


@pytest.mark.parametrize("field", ["http", "grpc"])
def test_port_in_use(tmp_path, field):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("orchestratord", gateway_config(tmp_path, **{field: {"listen": f"127.0.0.1:{port}"}}), tmp_path)
    assert done.returncode == 74, done.stderr
    assert str(port) in done.stderr


@pytest.mark.parametrize("name", ["orchestratord", "pool-managerd"])
def test_unknown_key_in_the_configuration(tmp_path, name):
    done = run(name, {"state_dir": str(tmp_path), "speed": "fast"}, tmp_path)
    assert done.returncode == 78, done.stderr
    assert "speed" in done.stderr


def test_public_address_without_a_key_is_refused(tmp_path):
    done = run("orchestratord", gateway_config(tmp_path, http={"listen": "0.0.0.0:0"}), tmp_path)
    assert done.returncode == 78 and "http.listen" in done.stderr


def test_missing_model_file(tmp_path):
    with Cluster([native_pool(str(tmp_path / "absent.gguf"))]) as cluster:
        replica = failed_replica(cluster)
        assert "absent.gguf" in replica["last_error"]
        wait_until(lambda: cluster.chat("Hi").status == 503, 10, "the gateway knows the pool and refuses with 503")


def test_truncated_model_file(tmp_path):
    path = tmp_path / "cut.gguf"
    with open(model_file(), "rb") as source:
        path.write_bytes(source.read(1_000_000))
    pool = native_pool(str(path))
    del pool["model"]["digest"]
    with Cluster([pool]) as cluster:
        assert failed_replica(cluster)["state"] == "failed"


def test_wrong_digest(tmp_path):
    pool = native_pool()
    pool["model"]["digest"] = "sha256:" + "0" * 64
    with Cluster([pool]) as cluster:
        assert "digest" in failed_replica(cluster)["last_error"]


def test_no_vulkan_driver(monkeypatch):
    monkeypatch.setenv("VK_ICD_FILENAMES", "/nonexistent.json")
    monkeypatch.setenv("VK_DRIVER_FILES", "/nonexistent.json")
    done = subprocess.run([binary_dir() / "workerd", "--model", model_file(), "--model-name", "x", "--device", "vulkan", "--generate", "hi"],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 69, (done.returncode, done.stderr)
    assert "vulkan" in done.stderr.lower()


def test_OC_DEVICE_1004_a_device_lost_in_the_middle_ends_the_process(monkeypatch):
    """A layer of the test tree loses it after the load, while tokens are made."""
    lavapipe = pathlib.Path("/usr/share/vulkan/icd.d/lvp_icd.x86_64.json")
    assert lavapipe.exists(), "mesa-vulkan-drivers is missing (ci/deps.txt)"
    monkeypatch.setenv("VK_ICD_FILENAMES", str(lavapipe))
    monkeypatch.setenv("VK_LAYER_PATH", str(binary_dir().parent / "gen/layers"))
    monkeypatch.setenv("VK_INSTANCE_LAYERS", "VK_LAYER_ORCH_losing_device")
    monkeypatch.setenv("VK_ORCH_LOSE_DEVICE_AFTER", "25")
    done = subprocess.run([binary_dir() / "workerd", "--model", model_file(), "--device", "vulkan:0", "--ctx", "512", "--max-tokens", "60",
                           "--generate", "Count to one hundred."], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 69, (done.returncode, done.stderr)
    assert "VK_ERROR_DEVICE_LOST" in done.stderr and "llvmpipe" in done.stderr
    assert done.stdout.strip(), "tokens came before the loss"


def test_too_little_memory():
    done = subprocess.run([binary_dir() / "workerd", "--model", model_file(), "--model-name", "x", "--memory-max-bytes", "1000000", "--device", "cpu",
                           "--generate", "hi"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 71, (done.returncode, done.stderr)
    assert "budget 1 MiB" in done.stderr


@contextlib.contextmanager
def manager_alone(pool):
    """A pool manager and its worker, without a gateway."""
    cluster = Cluster([pool])
    with contextlib.ExitStack() as stack:
        stack.push(cluster)  # its end alone
        cluster.start_manager()
        yield cluster


def test_OC_ENGINE_1006_a_pool_of_little_memory_says_what_context_it_got():
    """The limit of the pool reaches the worker, which shrinks its context, logs it and tells it."""
    limit = 400 * 1024 * 1024
    with manager_alone(native_pool(ctx=0, memory_max_bytes=limit)) as cluster:
        replica = wait_until(lambda: next((r for r in cluster.replicas() if r["state"] == "ready"), None), 60, "the replica is ready")
        assert 512 <= replica["ctx_max"] < replica["ctx_wanted"], replica
        assert replica["memory_bytes"] <= limit
        lines = [json.loads(line) for path in (cluster.dir / "pool/logs").glob("default-0-*.log") for line in
                 path.read_text().splitlines() if line.startswith("{")]
    shrunk = next(line for line in lines if line["event"] == "context_shrunk")
    assert (shrunk["ctx"], shrunk["ctx_wanted"]) == (replica["ctx_max"], replica["ctx_wanted"])
    assert "budget 400 MiB" in shrunk["memory"]


def test_OC_DEVICE_1010_a_pool_whose_memory_is_too_little_is_refused_with_the_numbers():
    with manager_alone(native_pool(ctx=0, memory_max_bytes=1024 * 1024)) as cluster:
        assert "budget 1 MiB" in failed_replica(cluster)["last_error"]


def cli(state, *arguments, model):
    command = [binary_dir() / "llama-orch-cli", "--state-dir", state, "--binary-dir", binary_dir(), "--listen", "127.0.0.1:0",
               "--grpc-listen", "127.0.0.1:0", "--model-path", model, "--device", "cpu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_OC_CLI_1005_up_ends_at_once_when_the_model_cannot_come(tmp_path):
    with tempfile.TemporaryDirectory(prefix="orch") as state:  # its sockets need a short path
        done = cli(state, "up", model=tmp_path / "absent.gguf")
        assert done.returncode == 1, (done.stdout, done.stderr)
        assert any("failed: " in line and "absent.gguf" in line for line in done.stderr.splitlines()), done.stderr
        listed = cli(state, "ps", model="unused")
        assert listed.returncode == 1 and "no cluster is running" in listed.stderr, "what it started, it stopped"


def test_OC_CLI_1001_1004_up_streams_an_answer_says_what_served_it_and_down_leaves_no_process():
    with tempfile.TemporaryDirectory(prefix="orch") as state:
        def of_the_cluster():
            found = {}
            for entry in pathlib.Path("/proc").iterdir():
                with contextlib.suppress(OSError):
                    line = (entry / "cmdline").read_bytes().decode().split("\0") if entry.name.isdigit() else [""]
                    if any(state in word for word in line):
                        found[int(entry.name)] = pathlib.Path(line[0]).name
            return found
        try:
            done = cli(state, "up", model=model_file())
            assert done.returncode == 0, (done.stdout, done.stderr)
            said, _, hint = done.stdout.partition("The cluster stays up.")
            assert len(said.split()) >= 3 and "/v1/chat/completions" in hint, done.stdout
            assert "tokens/s" in done.stderr and "served by the CPU, no GPU was used" in done.stderr, done.stderr
            running = of_the_cluster()
            assert {"orchestratord", "pool-managerd", "workerd"} <= set(running.values()), running
        finally:
            down = cli(state, "down", model="unused")
        assert down.returncode == 0 and not of_the_cluster(), (down.stderr, of_the_cluster())


def client(*arguments):
    return subprocess.run([binary_dir() / "llama-orch-cli", *arguments], capture_output=True, text=True, timeout=20, check=False)


COMMANDS = ["up", "run", "ps", "status", "doctor", "models", "logs", "cancel", "drain", "undrain", "restart", "reload", "down"]


@pytest.mark.parametrize("command", [[name] for name in COMMANDS] + [["models", "pull"]], ids=" ".join)
def test_OC_CLI_1011_each_command_explains_itself_and_its_exit_codes(command):
    done = client(*command, "--help")
    assert done.returncode == 0 and f"{' '.join(command)} [OPTIONS]" in done.stdout, done.stdout
    assert "Exit codes: 0 " in done.stdout


def test_OC_CLI_1011_an_unknown_command_is_refused_with_the_list():
    done = client("satus")
    assert done.returncode == 2 and done.stdout == "" and "satus" in done.stderr
    assert all(f"\n  {command} " in done.stderr for command in COMMANDS), done.stderr


def test_the_mock_calls_itself_mock():
    with Cluster([mock_pool()]) as cluster:
        cluster.wait_ready()
        assert cluster.replicas()[0]["engine"] == "mock"
        reply = cluster.chat("Hi", model="mock-model")
        assert reply.status == 200 and reply.headers["x-orch-engine"] == "mock"
