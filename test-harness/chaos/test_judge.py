"""The judges of the chaos run, shown what they are there to see: a gateway that loses, repeats, reorders or invents, a replica
with two processes, a worker with more jobs than slots, and a real gateway that lost its journal."""

import contextlib
import http.server
import json
import subprocess
import sys
import threading
import types

import pytest

from hosts import GATEWAYS, WORDS, Site
from judged_load import Load, OwnersWatch
from orch_cluster import ClusterError, request, wait_until

STARTED = ("started", {"queue_position": 0, "predicted_start_ms": 0})
TOKENS = [("token", {"i": i, "t": (" " if i else "") + word}) for i, word in enumerate(WORDS)]
END = ("end", {"tokens_out": len(WORDS), "decode_ms": 1})
HONEST = [STARTED, *TOKENS, END]


def numbered(events):
    return [(number, name, data) for number, (name, data) in enumerate(events, 1)]


# What a gateway tells instead, and the word by which the judge must name it.
LIES = {
    "a token twice": (numbered([STARTED, TOKENS[0], TOKENS[0], *TOKENS[1:], END]), "token event"),
    "an event id twice": ([*numbered(HONEST)[:5], *numbered(HONEST)[4:]], "follows"),
    "a gap": (numbered(HONEST)[:7] + numbered(HONEST)[9:], "follows"),
    "a token left out": (numbered([STARTED, *TOKENS[:4], *TOKENS[5:], END]), "token event"),
    "two ends": (numbered([*HONEST, END]), "after the terminal"),
    "an error behind the end": (numbered([*HONEST, ("error", {"code": "WORKER_RESET"})]), "after the terminal"),
    "another text": (numbered([STARTED, ("token", {"i": 0, "t": "other"}), END]), "the text is"),
    "an end too early": (numbered([STARTED, *TOKENS[:9], END]), "the end comes after"),
    "no start": (numbered([*TOKENS, END]), "started"),
    "no end": (numbered([STARTED, *TOKENS]), "is lost"),
    "nothing": ([], "is lost"),
    "a task it does not know": (None, "is gone"),
}


@contextlib.contextmanager
def gateway(events):
    """Says `events` to whoever reads a stream, from behind Last-Event-ID; None: it knows no task."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def answer(self, status, body, kind="application/json"):
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.answer(202, b"{}")

        def do_GET(self):
            if events is None:
                return self.answer(404, b'{"code":"NOT_FOUND"}')
            behind = int(self.headers.get("Last-Event-ID", "0"))
            lines = [f"id: {n}\nevent: {name}\ndata: {json.dumps(data)}\n\n" for n, name, data in events if n > behind]
            return self.answer(200, "".join(lines).encode(), "text/event-stream")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class FakeHost:
    namespace = None

    def __init__(self, url):
        self.url = url

    def request(self, method, path, body=None, headers=None, timeout=10):
        return request(method, self.url + path, body, headers, timeout)


def judged(events):
    with gateway(events) as url:
        site = types.SimpleNamespace(engine="mock", hosts={name: FakeHost(url) for name in GATEWAYS})
        with Load(site, clients=2, patience=1) as load:
            wait_until(lambda: load.tasks, 10, "a task came to its verdict")
    return load


def test_OC_CHAOS_1002_an_honest_gateway_is_believed():
    load = judged(numbered(HONEST))
    assert load.tasks and not load.faults, load.faults


@pytest.mark.parametrize("lie", LIES)
def test_OC_CHAOS_1002_the_judge_of_streams_sees(lie):
    events, word = LIES[lie]
    load = judged(events)
    assert load.faults and word in load.faults[0], load.faults


@contextlib.contextmanager
def watched(tmp_path, processes, running):
    """An OwnersWatch over one manager that reports `running` jobs on two slots and has so many worker processes."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            body = json.dumps({"replicas": [{"running": running, "slots": 2}]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    site = types.SimpleNamespace(dir=tmp_path, hosts={"manager-1": FakeHost(f"http://127.0.0.1:{server.server_address[1]}")})
    site.workers_alive = lambda manager: Site.workers_alive(site, manager)
    workers = [subprocess.Popen([sys.executable, "-c", "input()", f"unix:{tmp_path}/manager-1/run/default-0-1.{n}.sock"],
                                stdin=subprocess.PIPE) for n in range(processes)]
    try:
        with OwnersWatch(site, ["manager-1"]) as watch:
            wait_until(lambda: watch.faults or watch.looks > 10, 20, "it has looked")
            yield watch
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("processes, running, word", [(1, 2, None), (2, 1, "has the processes"), (1, 3, "3 jobs on 2 slots")])
def test_OC_CHAOS_1002_the_judge_of_owners_sees_two_processes_and_too_many_jobs(tmp_path, processes, running, word):
    with watched(tmp_path, processes, running) as watch:
        assert [word in fault for fault in watch.faults[:1]] == ([True] if word else [])


def test_OC_CHAOS_1002_a_real_gateway_that_lost_its_journal_is_found_out():
    with Site(isolated=False) as site:
        with Load(site) as load:
            load.probe()
            host = site.hosts["gateway-1"]
            for _ in range(12):  # nothing is lost when it has no task just then
                host.kill()
                for file in host.state.glob("journal.db*"):
                    file.unlink()
                host.start()
                with contextlib.suppress(ClusterError):
                    wait_until(lambda: load.faults, 5, "the judge sees the loss")
                    break
    assert any("is gone" in fault for fault in load.faults), load.faults
