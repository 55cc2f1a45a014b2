"""What `up` leaves behind: faults that pass do not end it, its logs stay bounded, and it says why it ended."""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import tempfile

import pytest

from orch_cluster import binary_dir, mock_pool, model_file, request, wait_until


class Supervised:
    """A supervisor over the mock engine: the files that `up` writes, then `supervise` as `up` starts it."""

    def __init__(self, directory, http_port=0):
        self.state = pathlib.Path(directory)
        self.logs = self.state / "logs"
        self.gateway = self.state / "orchestratord"
        pool = self.state / "pool"
        for folder in (self.state / "config", self.logs, self.gateway, pool):
            folder.mkdir(mode=0o700)
        configs = {
            "orchestratord": {"state_dir": str(self.gateway), "http": {"listen": f"127.0.0.1:{http_port}"}, "grpc": {"listen": "127.0.0.1:0"},
                              "managers": [{"endpoint": f"unix:{pool}/manager.sock"}]},
            "pool-managerd": {"state_dir": str(pool), "grpc": {"listen": f"unix:{pool}/manager.sock"}, "http": {"listen": "127.0.0.1:0"},
                              "pools": [mock_pool()]}}
        for name, config in configs.items():
            (self.state / f"config/{name}.yaml").write_text(json.dumps(config))
        self.process = None

    def start(self, binaries=None):
        binaries = binaries or binary_dir()
        command = [binaries / "llama-orch-cli", "--state-dir", self.state, "--binary-dir", binaries, "supervise"]
        with open(self.logs / "supervisor.log", "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self

    def log(self, name="supervisor"):
        path = self.logs / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def await_that(self, condition, seconds, what):
        """Polls for it; a supervisor that has ended fails the test at once."""
        def met():
            assert self.process.poll() is None, f"the supervisor ended with {self.process.returncode}: {self.log()}"
            return condition()
        return wait_until(met, seconds, what)

    def child(self, name):
        """The pid of its child of that name; None while there is none."""
        for pid in pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                if pathlib.Path(f"/proc/{pid}/exe").resolve().name == name:
                    return int(pid)
        return None

    def ready(self):
        with contextlib.suppress(OSError, ValueError):
            port = int((self.gateway / "http.port").read_text())
            return request("GET", f"http://127.0.0.1:{port}/readyz", timeout=5).status == 200
        return False

    def kill(self, name):
        os.kill(self.child(name), signal.SIGKILL)


@pytest.fixture
def supervised():
    with tempfile.TemporaryDirectory(prefix="orch") as directory:  # its sockets need a short path
        cluster = Supervised(directory)
        try:
            yield cluster
        finally:
            if cluster.process and cluster.process.poll() is None:
                cluster.process.terminate()
                cluster.process.wait(90)


def test_OC_CLI_1006_a_full_disk_that_passes_does_not_end_the_cluster(supervised):
    supervised.start().await_that(supervised.ready, 30, "the cluster is ready")
    pid = supervised.process.pid
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))  # no process started from now on can write a file
    supervised.kill("orchestratord")
    boot = supervised.gateway / "boot.new"
    supervised.await_that(boot.exists, 20, "orchestratord is started and cannot write its boot counter")
    supervised.await_that(lambda: supervised.child("orchestratord") is None, 20, "it has ended")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
    supervised.await_that(supervised.ready, 60, "the cluster is ready again")


def test_OC_CLI_1006_a_lock_that_is_held_for_a_while_does_not_end_the_cluster(supervised):
    supervised.start().await_that(supervised.ready, 30, "the cluster is ready")
    with open(supervised.gateway / "lock", "rb") as lock:
        def take():
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            child = supervised.child("orchestratord")
            if child:
                os.kill(child, signal.SIGKILL)
            return False
        supervised.await_that(take, 20, "the lock of a killed orchestratord is taken")
        supervised.await_that(lambda: "ended with exit code 74" in supervised.log(), 20, "the next one has found it taken")
    supervised.await_that(supervised.ready, 60, "the cluster is ready again")


def test_OC_CLI_1006_what_a_killed_supervisor_left_behind_is_waited_for(supervised):
    with open(supervised.gateway / "lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as an orchestratord that still drains
        supervised.start().await_that(lambda: "in use" in supervised.log() + supervised.log("orchestratord"), 20, "the supervisor has met it")
        supervised.await_that(lambda: True, 1, "it has not ended by it")
    supervised.await_that(supervised.ready, 60, "the cluster is ready")


def test_OC_CLI_1006_a_first_start_that_is_refused_ends_the_cluster_with_its_reason(supervised):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = supervised.state / "config/orchestratord.yaml"
        config.write_text(config.read_text().replace('"http": {"listen": "127.0.0.1:0"}', f'"http": {{"listen": "127.0.0.1:{port}"}}'))
        assert supervised.start().process.wait(60) == 1, supervised.log()
    assert f":{port}" in (supervised.state / "supervisor.failure").read_text()


def test_OC_CLI_1006_a_daemon_that_cannot_be_started_for_a_while_does_not_end_the_cluster(supervised, tmp_path):
    for name in ("llama-orch-cli", "orchestratord", "pool-managerd", "adapterd"):
        (tmp_path / name).symlink_to((binary_dir() / name).resolve())
    supervised.start(tmp_path).await_that(supervised.ready, 30, "the cluster is ready")
    (tmp_path / "orchestratord").unlink()  # as a build does before it writes the new one
    supervised.kill("orchestratord")
    supervised.await_that(lambda: "could not be started" in supervised.log(), 20, "the supervisor has missed it")
    (tmp_path / "orchestratord").symlink_to((binary_dir() / "orchestratord").resolve())
    supervised.await_that(supervised.ready, 60, "the cluster is ready again")


def test_OC_CLI_1007_the_logs_are_bounded_while_their_writers_run(supervised):
    supervised.start().await_that(supervised.ready, 30, "the cluster is ready")
    for name in ("supervisor", "pool-managerd", "orchestratord"):
        log = supervised.logs / f"{name}.log"
        with open(log, "ab") as writer:
            os.truncate(log, 20 << 20)
            writer.write(b"the newest line\n")
        old = supervised.logs / f"{name}.log.1"
        supervised.await_that(lambda: old.exists() and log.stat().st_size < 1 << 20, 20, f"{log} is cut")  # noqa: B023
        assert old.stat().st_size <= 9 << 20 and b"the newest line\n" in old.read_bytes()[-4096:]
    supervised.kill("orchestratord")
    supervised.await_that(lambda: "ended with signal 9" in supervised.log(), 20, "what comes after the cut is in the log")
    assert supervised.log().startswith("orchestratord ended"), "who has it open goes on at its new end"


def command_line(supervised, *arguments):
    command = [binary_dir() / "llama-orch-cli", "--state-dir", supervised.state, "--binary-dir", binary_dir(), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_OC_CLI_1012_status_and_doctor_say_which_daemon_does_not_stay_up_and_why(supervised, tmp_path):
    for name in ("llama-orch-cli", "orchestratord", "pool-managerd", "adapterd"):
        (tmp_path / name).symlink_to((binary_dir() / name).resolve())
    supervised.start(tmp_path).await_that(supervised.ready, 30, "the cluster is ready")
    assert "went down" not in command_line(supervised, "status").stdout + command_line(supervised, "doctor").stdout
    (tmp_path / "orchestratord").unlink()
    supervised.kill("orchestratord")

    def said(what):
        return re.search(r"orchestratord went down \d+ times in a row, last: orchestratord could not be started", what.stdout)
    supervised.await_that(lambda: said(command_line(supervised, "status")), 20, "status says it")
    doctor = command_line(supervised, "doctor")
    assert "! daemon     orchestratord went down" in doctor.stdout and said(doctor), doctor.stdout
    assert doctor.returncode == 1, doctor
    supervised.process.terminate()
    supervised.process.wait(90)
    (tmp_path / "orchestratord").symlink_to((binary_dir() / "orchestratord").resolve())
    supervised.start(tmp_path).await_that(supervised.ready, 30, "the cluster is ready again")
    assert "went down" not in command_line(supervised, "status").stdout, "of another life of the supervisor"


def up(state, *arguments):
    command = [binary_dir() / "llama-orch-cli", "--state-dir", state, "--binary-dir", binary_dir(), "--grpc-listen", "127.0.0.1:0",
               "--model-path", model_file(), "--device", "cpu", *arguments, "up"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_OC_CLI_1007_a_refused_start_is_explained_however_long_the_log_is():
    with tempfile.TemporaryDirectory(prefix="orch") as state, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        logs = pathlib.Path(state) / "logs"
        logs.mkdir()
        (logs / "orchestratord.log").write_bytes(b"an older line\n" * (150 << 10))
        done = up(state, "--listen", f"127.0.0.1:{port}")
        assert done.returncode == 1 and str(port) in done.stderr, (done.stdout, done.stderr)


def test_OC_CLI_1010_up_ends_when_its_supervisor_cannot_start():
    with tempfile.TemporaryDirectory(prefix="orch") as state:
        lock = pathlib.Path(state) / "supervisor.pid"
        with open(lock, "wb") as looking:
            fcntl.flock(looking, fcntl.LOCK_SH)  # as `ps` does, only longer
            done = up(state, "--listen", "127.0.0.1:0")
        assert done.returncode == 1, (done.stdout, done.stderr)
        assert f"{lock} is held by another process" in done.stderr, done.stderr
