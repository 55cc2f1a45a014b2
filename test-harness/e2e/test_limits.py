"""Floods and slow readers: refusals are typed, memory stays bounded, and the others are served."""

import contextlib
import http.client
import importlib
import json
import pathlib
import resource
import select
import socket
import sys
import urllib.parse
import uuid

import grpc
import pytest
from grpc_tools import protoc

from orch_cluster import ROOT, Cluster, binary_dir, mock_pool, request, wait_until

MODEL = "mock-model"
QUEUE = 16
CALLS = 3000
GROWTH_MAX_KIB = 96 * 1024


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    out = tmp_path_factory.mktemp("stubs")
    files = [str(p) for p in (ROOT / "proto/orch/v1").glob("*.proto")]
    assert protoc.main(["protoc", f"-I{ROOT}/proto", f"--python_out={out}", f"--grpc_python_out={out}", *files]) == 0
    sys.path.insert(0, str(out))
    return [importlib.import_module(f"orch.v1.{name}") for name in ("orchestrator_pb2", "common_pb2", "orchestrator_pb2_grpc")]


def cluster_with(tmp_path, script, gateway=None):
    path = tmp_path / "script.json"
    path.write_text(json.dumps(script))
    return Cluster([mock_pool(mock_script=str(path))], orchestratord=gateway or {})


@pytest.fixture()
def busy_cluster(tmp_path):
    """One slot whose job gives a token every second, so that the queue fills and stays full."""
    script = {"text": " ".join("w" for _ in range(2000)), "token_delay_ms": 1000}
    with cluster_with(tmp_path, script, {"queue": {"capacity": QUEUE}, "drain_deadline_ms": 100}) as cluster:
        yield cluster.wait_ready()


def resident_kib(process, field="VmRSS"):
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise AssertionError(field)


def submit_request(messages, common, task_id=None):
    return messages.SubmitRequest(task_id=task_id or str(uuid.uuid4()), model_ref=MODEL, max_tokens=1000, prompt=common.Prompt(text="x" * 1000),
                                  sampling=common.Sampling(temperature=0, top_p=1))


def outcome(future):
    try:
        future.result(60)
        return "OK", ""
    except grpc.RpcError as error:
        return error.code().name, error.details()


def test_a_flood_of_grpc_submits_is_refused_with_RESOURCE_EXHAUSTED(busy_cluster, stubs):
    messages, common, service = stubs
    gateway = busy_cluster.processes["orchestratord"]
    before = resident_kib(gateway)
    with grpc.insecure_channel(busy_cluster.grpc) as channel:
        calls = service.OrchestratorStub(channel)
        answers = [outcome(f) for f in [calls.Submit.future(submit_request(messages, common)) for _ in range(CALLS)]]
    codes = [code for code, _ in answers]
    assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}, set(codes)
    assert 1 <= codes.count("OK") <= QUEUE + 1
    reasons = {text.split(":")[0] for code, text in answers if code != "OK"}
    assert reasons <= {"ADMISSION_REJECT"}, reasons
    assert resident_kib(gateway, "VmHWM") - before < GROWTH_MAX_KIB
    assert request("GET", busy_cluster.url + "/livez").status == 200
    assert busy_cluster.metric_sum("queue_depth") <= QUEUE


# OC-CTRL-2077: and those that are refused are told when to come back.
def test_a_flood_of_grpc_streams_is_refused_and_the_first_reader_is_served(busy_cluster, stubs):
    messages, common, service = stubs
    gateway = busy_cluster.processes["orchestratord"]
    task_id = str(uuid.uuid4())
    with grpc.insecure_channel(busy_cluster.grpc) as channel:
        calls = service.OrchestratorStub(channel)
        calls.Submit(submit_request(messages, common, task_id))
        first = calls.Stream(messages.StreamRequest(task_id=task_id))
        assert next(first).WhichOneof("kind") == "started"
        before = resident_kib(gateway)
        flood = [calls.Stream(messages.StreamRequest(task_id=task_id)) for _ in range(CALLS)]
        refused = wait_until(lambda: [s for s in flood if s.done()] if sum(s.done() for s in flood) >= CALLS - 8 else None, 60, "the flood is refused")
        assert {s.code().name for s in refused} == {"RESOURCE_EXHAUSTED"}
        assert {s.details().split(":")[0] for s in refused} == {"ADMISSION_REJECT"}
        told = [dict(s.trailing_metadata()) for s in refused if "readers already" in s.details()]
        assert told and all(int(t["retry-after-ms"]) > 0 and t["policy-label"] == "reject" for t in told), "OC-CTRL-2077"
        assert resident_kib(gateway, "VmHWM") - before < GROWTH_MAX_KIB
        assert next(e for e in first if e.WhichOneof("kind") == "token")
        for stream in flood:
            stream.cancel()
        first.cancel()


@pytest.fixture()
def with_open_files(tmp_path, monkeypatch):
    """Both daemons as processes that begin under other limits of open files."""
    def limit(command):
        real = binary_dir().resolve()
        programs = tmp_path / "programs"
        programs.mkdir()
        for name in ("orchestratord", "pool-managerd"):
            (programs / name).write_text(f'#!/bin/sh\n{command}\nexec "{real}/{name}" "$@"\n')
            (programs / name).chmod(0o755)
        monkeypatch.setenv("LLAMA_ORCH_BINARIES", str(programs))
    return limit


def test_OC_PLAT_1002_the_soft_limit_of_open_files_is_raised_to_the_hard_one(with_open_files):
    with_open_files("ulimit -S -n 256 && ulimit -H -n 2000")
    with Cluster([mock_pool()]) as cluster:
        for process in cluster.processes.values():
            assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (2000, 2000)


def test_OC_PLAT_1002_connections_leave_files_for_everything_else(with_open_files, stubs):
    messages, common, service = stubs
    files, clients = 400, 420
    with_open_files(f"ulimit -n {files}")
    with Cluster([mock_pool()]) as cluster:
        cluster.wait_ready()
        address = urllib.parse.urlparse(cluster.url)
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(contextlib.closing(http.client.HTTPConnection(address.hostname, address.port, timeout=60)))
            first.connect()
            sockets = [stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=60)) for _ in range(clients)]
            poll = select.poll()
            for each in sockets:
                poll.register(each, select.POLLIN)
            refused = wait_until(lambda: [fd for fd, _ in poll.poll(0)] if len(poll.poll(0)) > clients // 4 else None, 20, "connections are refused")
            assert all(s.recv(4096).startswith(b"HTTP/1.1 503 ") for s in sockets if s.fileno() in refused)
            first.request("POST", "/v1/tasks", json.dumps(cluster.task_body("Hi", model_ref=MODEL, max_tokens=2)))
            assert first.getresponse().status == 202, "a task, which costs a file"
            with grpc.insecure_channel(cluster.grpc) as channel:
                assert service.OrchestratorStub(channel).Submit(submit_request(messages, common)).task_id
        wait_until(lambda: request("GET", cluster.url + "/livez").status == 200, 20, "and there is room again")


class SlowReader:
    """Opens a stream and reads its head only; a small receive buffer makes the gateway's own buffer fill."""

    def __init__(self, url, path):
        address = urllib.parse.urlparse(url)
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(60)
        self.socket.connect((address.hostname, address.port))
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self.seen = b""
        while b"event: started" not in self.seen:
            self.seen += self.socket.recv(1024)

    def drain(self):
        """What still arrives until the connection ends; a reset is an end."""
        try:
            while chunk := self.socket.recv(1 << 16):
                self.seen += chunk
        except ConnectionResetError:
            pass
        self.socket.close()
        return self.seen


def test_OC_JOB_1002_a_slow_reader_is_cut_and_the_quick_one_gets_everything(tmp_path):
    words, size = 400, 40_000  # 16 MB: more than the kernel's socket buffers and ours together
    # The first token waits until both readers are there; then 8 MB/s, which the quick one can always follow.
    script = {"text": "x" * size, "repeat": words, "token_delay_ms": 5, "first_token_delay_ms": 2000}
    with cluster_with(tmp_path, script) as cluster:
        cluster.wait_ready()
        gateway = cluster.processes["orchestratord"]
        before = resident_kib(gateway)
        body = cluster.task_body("Hi", model_ref=MODEL, max_tokens=1000, deadline_ms=60000)
        assert request("POST", cluster.url + "/v1/tasks", body).status == 202
        slow = SlowReader(cluster.url, f"/v1/tasks/{body['task_id']}/stream")
        text, last = 0, None
        for name, data, _ in cluster.task_events(body["task_id"]):
            text += len(data["t"]) if name == "token" else 0
            last = name
        assert last == "end" and text == words * (size + 1) - 1
        seen = slow.drain()
        assert b"event: end" not in seen and b"event: error" not in seen, "it was cut, not ended"
        assert len(seen) < words * size
        assert resident_kib(gateway, "VmHWM") - before < GROWTH_MAX_KIB


def test_OC_OAI_1008_a_waiting_stream_shows_that_it_lives(tmp_path):
    script = {"text": " ".join(f"w{i}" for i in range(1500)), "token_delay_ms": 2}
    with cluster_with(tmp_path, script, {"streams": {"heartbeat_ms": 300}}) as cluster:
        cluster.wait_ready()
        running = cluster.chat_events("Hi", model=MODEL, max_tokens=1500)
        next(running)
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3, "stream": True}
        waiting = RawStream(cluster.url, body)
        head = waiting.read_until(b": waiting\n\n")
        assert head.startswith(b"HTTP/1.1 200") and b"X-Orch-Replica" not in head, head
        assert b": keep-alive\n\n" in waiting.read_until(b": keep-alive\n\n")
        running.close()  # frees the slot
        rest = waiting.read_until(b"data: [DONE]\n\n")
        assert b": X-Orch-Engine: mock\n\n" in rest and rest.count(b'"content":"w') >= 1


class RawStream:
    """A streamed chat as the bytes of its chunks."""

    def __init__(self, url, body):
        address = urllib.parse.urlparse(url)
        data = json.dumps(body).encode()
        self.socket = socket.create_connection((address.hostname, address.port), timeout=60)
        self.socket.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
        self.buffer = b""

    def read_until(self, mark):
        while mark not in self.buffer:
            chunk = self.socket.recv(4096)
            assert chunk, self.buffer
            self.buffer += chunk
        at = self.buffer.index(mark) + len(mark)
        out, self.buffer = self.buffer[:at], self.buffer[at:]
        return out


def test_OC_OAI_1008_a_refusal_at_admission_stays_a_status(tmp_path):
    script = {"text": " ".join("w" for _ in range(2000)), "token_delay_ms": 1000}
    gateway = {"streams": {"heartbeat_ms": 50}, "queue": {"capacity": 1}, "drain_deadline_ms": 100}
    with cluster_with(tmp_path, script, gateway) as cluster:
        cluster.wait_ready()
        for _ in range(2):  # one runs, one waits
            reply = request("POST", cluster.url + "/v1/tasks", cluster.task_body("Hi", model_ref=MODEL, max_tokens=1000))
            assert reply.status == 202, reply.body
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3, "stream": True}
        reply = request("POST", cluster.url + "/v1/chat/completions", body)
        assert reply.status == 429 and reply.json()["error"]["code"] == "ADMISSION_REJECT"
        assert int(reply.headers["retry-after"]) >= 1


def post_detached(cluster, tokens):
    body = cluster.task_body("Write.", model_ref=MODEL, max_tokens=tokens, detached=True, ctx=16384)
    del body["deadline_ms"]
    assert request("POST", cluster.url + "/v1/tasks", body).status == 202
    return body["task_id"]


def wait_ended(cluster, task_id):
    wait_until(lambda: request("GET", f"{cluster.url}/v1/tasks/{task_id}/explain").json()["state"] == "ended", 60, "the task has ended")


def test_OC_JOB_1017_a_long_answer_that_nobody_read_is_read_from_its_start(tmp_path):
    tokens = 6000
    script = {"text": " ".join(f"w{i}" for i in range(100)), "repeat": 100, "token_delay_ms": 0, "ctx_max": 16384}
    with cluster_with(tmp_path, script, {"streams": {"reader_bytes_max": 65536}}) as cluster:
        cluster.wait_ready()
        task_id = post_detached(cluster, tokens)
        wait_ended(cluster, task_id)
        for _ in range(2):
            events = [e for e in cluster.task_events(task_id) if e[0] != "metrics"]
            assert [e[0] for e in events[:1] + events[-1:]] == ["started", "end"]
            assert [data["i"] for name, data, _ in events[1:-1]] == list(range(tokens))
            assert [int(number) for _, _, number in events] == list(range(1, tokens + 3))
        behind = list(cluster.task_events(task_id, headers={"Last-Event-ID": str(tokens)}))
        assert [int(number) for _, _, number in behind] == [tokens + 1, tokens + 2]


def test_OC_PLAT_1002_connections_to_the_gRPC_port_are_bounded(tmp_path, stubs):
    messages, common, service = stubs
    bound, clients = 4, 12
    with cluster_with(tmp_path, {"text": "a b"}, {"grpc": {"connections_max": bound}}) as cluster:
        cluster.wait_ready()
        host, port = cluster.grpc.rsplit(":", 1)
        with grpc.insecure_channel(cluster.grpc) as channel:
            calls = service.OrchestratorStub(channel)
            assert calls.Submit(submit_request(messages, common)).task_id
            with contextlib.ExitStack() as stack:
                sockets = [stack.enter_context(socket.create_connection((host, int(port)), timeout=60)) for _ in range(clients)]
                poll = select.poll()
                for each in sockets:
                    poll.register(each, select.POLLHUP | select.POLLRDHUP)
                wait_until(lambda: len(poll.poll(0)) == clients - (bound - 1), 20, "all but three are closed")
                assert calls.Submit(submit_request(messages, common)).task_id, "who is inside is served"
                assert request("GET", cluster.url + "/livez").status == 200
            with grpc.insecure_channel(cluster.grpc) as another:
                late = service.OrchestratorStub(another).Submit(submit_request(messages, common), wait_for_ready=True, timeout=60)
                assert late.task_id, "there is room again"


def wait_token(cluster, task_id, number):
    """Reads along until that event; the connection stays open."""
    stream = cluster.task_events(task_id)
    for _, _, at in stream:
        if at and int(at) >= number:
            return stream
    raise AssertionError("the stream has ended")


def test_OC_JOB_1018_a_late_reader_of_a_running_task_is_given_its_beginning_from_the_journal(tmp_path, stubs):
    messages, _, service = stubs
    script = {"text": " ".join(f"w{i}" for i in range(100)), "repeat": 100, "token_delay_ms": 2, "ctx_max": 16384}
    tokens = 3000
    with cluster_with(tmp_path, script, {"streams": {"buffer_bytes_max": 4096}}) as cluster:
        cluster.wait_ready()
        task_id = post_detached(cluster, tokens)
        eager = wait_token(cluster, task_id, 1000)
        assert request("GET", f"{cluster.url}/v1/tasks/{task_id}/explain").json()["state"] == "running"
        first = [e for e in cluster.task_events(task_id) if e[0] != "metrics"]
        behind = [e for e in cluster.task_events(task_id, headers={"Last-Event-ID": "500"}) if e[0] != "metrics"]
        with grpc.insecure_channel(cluster.grpc) as channel:
            calls = service.OrchestratorStub(channel)
            wire = [e for e in calls.Stream(messages.StreamRequest(task_id=task_id)) if e.WhichOneof("kind") != "metrics"]
        assert sum(1 for _ in eager) > 0
        assert [int(number) for _, _, number in first] == list(range(1, tokens + 3))
        assert [data["i"] for name, data, _ in first[1:-1]] == list(range(tokens))
        assert behind == first[500:]
        assert [e.id for e in wire] == [int(number) for _, _, number in first]
        assert [e.token.t for e in wire[1:-1]] == [data["t"] for _, data, _ in first[1:-1]]
