"""Starts real orchestratord and pool-managerd processes for tests and ends them by their process ids.

Nothing here replaces the product: workers are spawned by pool-managerd, and all traffic takes the public APIs.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL_NAME = "smollm2-135m-instruct"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def binary_dir():
    return pathlib.Path(os.environ.get("LLAMA_ORCH_BINARIES", ROOT / "build/release/bin"))


def model_file():
    path = os.environ.get("LLAMA_ORCH_MODEL")
    if not path:
        sys.exit("LLAMA_ORCH_MODEL must name the default model's file (./llama-orch test sets it)")
    return path


def changed(config, changes):
    """A section keeps the keys that its changes do not name."""
    return config | {key: {**config[key], **value} if isinstance(value, dict) and key in config else value for key, value in changes.items()}


class ClusterError(RuntimeError):
    """The cluster did not reach the awaited state; the message ends with its logs."""


def wait_until(condition, seconds, what, every=0.02):
    """Polls until condition() is truthy and returns its value; the deadline only bounds a failure."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise ClusterError(f"not within {seconds} s: {what}")
        time.sleep(every)


@dataclasses.dataclass
class Reply:
    status: int
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)


def request(method, url, body=None, headers=None, timeout=60):
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    call = urllib.request.Request(url, data=data, method=method, headers={"content-type": "application/json", **(headers or {})})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(call, timeout=timeout) as reply:
            return Reply(reply.status, {k.lower(): v for k, v in reply.headers.items()}, reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())


def native_pool(model=None, **changes):
    pool = {
        "id": "default", "engine": "native",
        "model": {"name": MODEL_NAME, "path": model or model_file(), "digest": f"sha256:{MODEL_SHA256}"},
        "slots": 2, "ctx": 2048, "device": "cpu", "threads": 2,
    }
    pool.update(changes)
    return pool


def mock_pool(**changes):
    pool = {"id": "mock", "engine": "mock", "model": {"name": "mock-model"}, "slots": 1}
    pool.update(changes)
    return pool


def parse_metrics(text):
    """{(name, ((label, value), ...)): float} of a Prometheus text."""
    out = {}
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        found = re.match(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)', line)
        labels = tuple(sorted(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found.group(2) or "")))
        out[(found.group(1), labels)] = float(found.group(3))
    return out


class Cluster:
    """One orchestratord and one pool-managerd. Use as a context manager."""

    def __init__(self, pools, orchestratord=None, pool_managerd=None, directory=None):
        self._temporary = None if directory else tempfile.TemporaryDirectory(prefix="orch")
        self.dir = pathlib.Path(directory or self._temporary.name)
        self.pools = pools
        self.orchestratord_config = orchestratord or {}
        self.pool_managerd_config = pool_managerd or {}
        self.processes = {}
        self.url = None

    def __enter__(self):
        try:
            self.start_manager()
            self.start_gateway()
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, failure=None, *_):
        try:
            self.stop()
        except ClusterError:
            if failure is None:  # else it would hide what came first
                raise
        finally:
            if self._temporary:
                self._temporary.cleanup()

    # --- processes ---

    def _spawn(self, name, config):
        path = self.dir / f"{name}.yaml"
        path.write_text(json.dumps(config))  # JSON is YAML
        log = open(self.dir / f"{name}.log", "ab")
        with log:
            self.processes[name] = subprocess.Popen(
                [binary_dir() / re.sub(r"-[0-9]+$", "", name), "--config", path], stdin=subprocess.DEVNULL, stdout=log, stderr=log, close_fds=True)
        return self.processes[name]

    def start_manager(self):
        state = self.dir / "pool"
        state.mkdir(mode=0o700, exist_ok=True)
        (state / "http.port").unlink(missing_ok=True)
        config = {"state_dir": str(state), "grpc": {"listen": f"unix:{state}/manager.sock"}, "http": {"listen": "127.0.0.1:0"},
                  "pools": self.pools}
        self._spawn("pool-managerd", changed(config, self.pool_managerd_config))
        self.manager_url = f"http://127.0.0.1:{self._port('pool-managerd', state / 'http.port')}"

    def _gateway(self, name, state, **settings):
        """(HTTP URL, gRPC address) of a new gateway with a state directory of its own."""
        state.mkdir(mode=0o700, exist_ok=True)
        for port in ("http.port", "grpc.port"):
            (state / port).unlink(missing_ok=True)
        config = {"state_dir": str(state), "http": {"listen": "127.0.0.1:0"}, "grpc": {"listen": "127.0.0.1:0"},
                  "managers": [{"endpoint": f"unix:{self.dir}/pool/manager.sock"}]}
        self._spawn(name, changed(changed(config, self.orchestratord_config), settings))
        return f"http://127.0.0.1:{self._port(name, state / 'http.port')}", f"127.0.0.1:{self._port(name, state / 'grpc.port')}"

    def start_gateway(self):
        self.url, self.grpc = self._gateway("orchestratord", self.dir / "gateway")

    def start_second_gateway(self, name="orchestratord-2", **settings):
        """Its HTTP URL. Same configuration but for the settings, same manager; ready when it says so."""
        url, _ = self._gateway(name, self.dir / name, **settings)
        wait_until(lambda: request("GET", url + "/readyz").status == 200, 20, "the second gateway is ready")
        return url

    def _port(self, name, path):
        def read():
            if self.processes[name].poll() is not None:
                raise ClusterError(f"{name} ended with {self.processes[name].returncode}: {self.log_tail(name)}")
            return path.exists() and path.read_text().strip()
        return int(wait_until(read, 20, f"{name} listens"))

    def kill(self, name, sig=signal.SIGKILL):
        process = self.processes[name]
        process.send_signal(sig)
        return process

    def stop(self):
        """SIGTERM to what still runs; raises when a process does not end by it, with 0."""
        faults = []
        gateways = [name for name in self.processes if name.startswith("orchestratord")]
        for name in (*gateways, "pool-managerd"):
            process = self.processes.get(name)
            if process is None or process.poll() is not None:
                continue
            process.terminate()
            try:
                code = process.wait(30)
                if code != 0:
                    faults.append(f"{name}, asked to stop, ended with {code}: {self.log_tail(name)}")
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                faults.append(f"{name} did not end within 30 s: {self.log_tail(name)}")
        if faults:
            raise ClusterError("\n".join(faults))

    # --- looking ---

    def log_tail(self, name, lines=15):
        with contextlib.suppress(OSError):
            return "\n".join((self.dir / f"{name}.log").read_text(errors="replace").splitlines()[-lines:])
        return "(no log)"

    def replicas(self):
        return request("GET", self.manager_url + "/v1/replicas").json()["replicas"]

    def ready_replica(self):
        return next((r for r in self.replicas() if r["state"] == "ready"), None)

    def wait_ready(self, seconds=60):
        """The cluster answers /readyz with 200."""
        def ready():
            return request("GET", self.url + "/readyz").status == 200
        try:
            wait_until(ready, seconds, "the cluster is ready")
        except ClusterError as error:
            raise ClusterError(f"{error}\n{self.replicas()}\n{self.log_tail('pool-managerd')}\n{self.log_tail('orchestratord')}") from None
        return self

    def metrics(self):
        return parse_metrics(request("GET", self.url + "/metrics").body.decode())

    def metric_sum(self, name, **labels):
        return sum(v for (n, l), v in self.metrics().items() if n == name and labels.items() <= dict(l).items())

    # --- asking ---

    def chat(self, content, timeout=60, **changes):
        body = {"model": MODEL_NAME, "messages": [{"role": "user", "content": content}], "max_tokens": 16, "temperature": 0}
        body.update(changes)
        return request("POST", self.url + "/v1/chat/completions", body, timeout=timeout)

    def chat_events(self, content, timeout=60, **changes):
        """Yields (event name or None, parsed data) of a streamed chat; closing the generator closes the connection."""
        body = {"model": MODEL_NAME, "messages": [{"role": "user", "content": content}], "max_tokens": 16, "temperature": 0, "stream": True}
        body.update(changes)
        yield from sse_events("POST", self.url + "/v1/chat/completions", body, timeout)

    def task_body(self, prompt, **changes):
        import uuid
        body = {"task_id": str(uuid.uuid4()), "session_id": str(uuid.uuid4()), "workload": "completion", "model_ref": MODEL_NAME,
                "engine": "llamacpp", "ctx": 1024, "priority": "interactive", "max_tokens": 16, "deadline_ms": 30000, "prompt": prompt}
        body.update(changes)
        return body

    def task_events(self, task_id, timeout=60, headers=None):
        yield from sse_events("GET", f"{self.url}/v1/tasks/{task_id}/stream", None, timeout, headers)


def sse_events(method, url, body=None, timeout=60, headers=None):
    """(event name, data, id) of an SSE stream, in order. A non-200 reply raises ClusterError with the body."""
    data = None if body is None else json.dumps(body).encode()
    call = urllib.request.Request(url, data=data, method=method, headers={"content-type": "application/json", **(headers or {})})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        reply = opener.open(call, timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            raise ClusterError(f"HTTP {error.code}: {error.read().decode(errors='replace')}") from None
    with reply:
        name, lines, event_id = None, [], None
        for raw in reply:
            line = raw.decode().rstrip("\r\n")
            if not line:
                if lines:
                    text = "\n".join(lines)
                    yield name, (text if text == "[DONE]" else json.loads(text)), event_id
                name, lines, event_id = None, [], None
            elif line.startswith("event:"):
                name = line[6:].strip()
            elif line.startswith("data:"):
                lines.append(line[5:].removeprefix(" "))
            elif line.startswith("id:"):
                event_id = line[3:].strip()


@contextlib.contextmanager
def llama_server(model=None, threads=2, slots=1, ctx=2048, options=(), niceness=0):
    """llama.cpp's own HTTP server in a process of its own; yields its URL. It ends when its standard input closes. `options`
    are further flags of llama_server.py."""
    with tempfile.TemporaryDirectory() as directory:
        url_file = pathlib.Path(directory) / "url"
        process = subprocess.Popen(
            [*(["nice", "-n", str(niceness)] if niceness else []), sys.executable, ROOT / "test-harness/llamacpp/llama_server.py",
             "--model", model or model_file(), "--slots", str(slots), "--ctx", str(ctx), "--threads", str(threads), "--url-file", url_file, *options],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def url():
            if process.poll() is not None:
                raise ClusterError(f"llama-server ended with {process.returncode}")
            return url_file.exists() and url_file.read_text().strip()
        try:
            yield wait_until(url, 60, "llama-server listens")
        finally:
            process.stdin.close()
            process.wait(20)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=os.environ.get("LLAMA_ORCH_MODEL"))
    parser.add_argument("--mock", action="store_true")
    args = parser.parse_args()
    with Cluster([mock_pool() if args.mock else native_pool(args.model)]) as cluster:
        cluster.wait_ready()
        print(cluster.url, cluster.grpc, cluster.manager_url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
