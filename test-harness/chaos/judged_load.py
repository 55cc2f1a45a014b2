"""Clients that post tasks, follow them across every fault, and judge what they get. A task counts as lost when it was admitted
and no terminal event comes, as duplicated when an event comes twice, out of order or after the terminal, or with text that the
script does not have at that place."""

import http.client
import itertools
import json
import random
import threading
import time
import urllib.error
import uuid

from hosts import GATEWAYS, WORDS, inside
from orch_cluster import MODEL_NAME, ClusterError, sse_events

TEXT = " ".join(WORDS)
SUBJECTS = ("a ship", "the sea", "an old clock", "rain", "a long road", "bread", "a tall tree", "the moon")
BROKEN = (OSError, http.client.HTTPException, urllib.error.URLError, ClusterError, json.JSONDecodeError)


class Task:
    """No two have the same prompt: one that two workers died under is refused for a while (M6)."""

    def __init__(self, gateway, engine="mock"):
        self.gateway, self.engine, self.id = gateway, engine, str(uuid.uuid4())
        native = engine == "native"
        self.body = {"task_id": self.id, "session_id": str(uuid.uuid4()), "workload": "completion",
                     "model_ref": MODEL_NAME if native else "mock-model", "engine": "llamacpp", "ctx": 512 if native else 1024,
                     "priority": "interactive", "max_tokens": 40 if native else 64, "deadline_ms": 600000, "seed": 7,
                     "prompt": f"Task {self.id}. Here is a story about {SUBJECTS[int(self.id[-1], 16) % len(SUBJECTS)]}:"}
        self.admitted, self.terminal, self.code = False, None, None
        self.last_id, self.tokens, self.text = 0, 0, ""

    def take(self, name, data, event_id):
        if name == "metrics":
            return None
        if self.terminal:
            return "an event after the terminal one"
        # J4: after a restart the error stands behind every event that may have been sent and is not stored.
        behind_all = name == "error" and int(event_id) > self.last_id
        if int(event_id) != self.last_id + 1 and not behind_all:
            return f"event {event_id} follows {self.last_id}"
        self.last_id = int(event_id)
        if (name == "started") != (self.last_id == 1):
            return "started is not the first event"
        if name == "token":
            if data["i"] != self.tokens:
                return f"token event {data['i']} where {self.tokens} is due"
            self.tokens += 1
            self.text += data["t"]
            if self.engine == "mock" and not TEXT.startswith(self.text):
                return f"the text is {self.text!r}"
        if name in ("end", "error"):
            self.terminal, self.code = name, data.get("code")
            if name == "end" and self.engine == "mock" and self.text != TEXT:
                return f"the end comes after {self.text!r}"
        return None


class Load:
    """`clients` threads, each with one task at a time. Use as a context manager; look at `faults`, `tasks` afterwards."""

    def __init__(self, site, clients=6, seed=1, patience=120):
        """`patience`: seconds until an admitted task counts as lost."""
        self.site, self.patience, self.faults, self.tasks = site, patience, [], []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._client, args=(n, random.Random(seed * 1000 + n)), daemon=True) for n in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(self.patience + 30)
        if any(thread.is_alive() for thread in self._threads):
            self.faults.append("a client did not come to its end")

    def _client(self, number, rng):
        for turn in itertools.count(number):
            if self._stop.is_set():
                return
            task = Task(GATEWAYS[turn % len(GATEWAYS)], self.site.engine)
            if self.follow(task, rng):
                with self._lock:
                    self.tasks.append(task)

    def follow(self, task, rng, patience=None):
        """To its terminal event; False: it was never admitted."""
        deadline = time.monotonic() + (patience or self.patience)
        while not task.admitted:
            if (self._stop.is_set() and patience is None) or time.monotonic() > deadline:
                return False
            self._post(task)
            if not task.admitted:
                time.sleep(rng.uniform(0.05, 0.3))
        while not task.terminal and time.monotonic() < deadline:
            fault = self._read(task)
            if fault:
                self.faults.append(f"task {task.id} at {task.gateway}: {fault}")
                return True
            if not task.terminal:
                time.sleep(rng.uniform(0.05, 0.3))
        if not task.terminal:
            self.faults.append(f"task {task.id} at {task.gateway} is lost: admitted, {task.last_id} events, no terminal")
        return True

    def _post(self, task):
        try:
            # With its key a repeated submission, whose answer was lost, finds the task that exists (J5).
            reply = self.site.hosts[task.gateway].request("POST", "/v1/tasks", task.body, {"Idempotency-Key": task.id}, 5)
        except BROKEN:
            return
        if reply.status == 202:
            task.admitted = True
        elif reply.status == 404 and reply.json()["code"] == "MODEL_NOT_FOUND":
            pass  # a gateway that has just started knows no pool yet
        elif reply.status not in (409, 429, 503):
            self.faults.append(f"POST /v1/tasks: {reply.status} {reply.body[:200]!r}")

    def _read(self, task):
        host = self.site.hosts[task.gateway]
        headers = {"Last-Event-ID": str(task.last_id)} if task.last_id else None
        try:
            with inside(host.namespace):
                for name, data, event_id in sse_events("GET", f"{host.url}/v1/tasks/{task.id}/stream", None, 15, headers):
                    fault = task.take(name, data, event_id)
                    if fault:
                        return fault
        except ClusterError as error:
            if "HTTP 404" in str(error):
                return f"an admitted task is gone: {error}"
        except BROKEN:
            pass
        return None

    def probe(self, seconds=60):
        """Seconds until each gateway has served a new task from its admission to its end."""
        began = time.monotonic()

        def ask(gateway):
            while (left := began + seconds - time.monotonic()) > 0:
                task = Task(gateway, self.site.engine)
                if self.follow(task, random.Random(0), left) and task.terminal == "end":
                    return
            self.faults.append(f"{gateway} serves nothing {seconds} s after the fault")
        threads = [threading.Thread(target=ask, args=(gateway,)) for gateway in GATEWAYS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.monotonic() - began

    def compare(self, at_most=24):
        """Asks again, with nothing going wrong: an answer of the same request has the same bytes, whatever it went through."""
        ended = [t for t in self.tasks if t.terminal == "end"][:at_most]
        for task in ended:
            again = Task(task.gateway, task.engine)
            again.body["prompt"] = task.body["prompt"]
            if not self.follow(again, random.Random(0), 60) or again.text != task.text:
                self.faults.append(f"task {task.id} said {task.text!r}, a quiet run says {again.text!r}")
        return len(ended)

    def summary(self):
        ended = [t for t in self.tasks if t.terminal]
        codes = {}
        for task in ended:
            codes[task.code or "end"] = codes.get(task.code or "end", 0) + 1
        return f"{len(self.tasks)} tasks admitted, {len(ended)} ended once: {dict(sorted(codes.items()))}; {len(self.faults)} lost or duplicated"


class OwnersWatch:
    """Looks every 50 ms whether a replica ever has two living processes, or more running jobs than slots."""

    def __init__(self, site, managers):
        self.site, self.managers, self.faults, self.looks = site, managers, [], 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(30)

    def _look(self):
        suspects = {}
        while not self._stop.wait(0.05):
            for manager in self.managers:
                for replica, pids in self.site.workers_alive(manager).items():
                    # A process that has been killed may still be on its way out when its successor starts: look twice.
                    before = suspects.get((manager, replica), set())
                    if len(pids) > 1 and len(before & set(pids)) > 1:
                        self.faults.append(f"{manager}: {replica} has the processes {pids}")
                    suspects[manager, replica] = set(pids)
                try:
                    for replica in self.site.hosts[manager].request("GET", "/v1/replicas", timeout=1).json()["replicas"]:
                        if replica["running"] > replica["slots"] > 0:
                            self.faults.append(f"{manager}: {replica['running']} jobs on {replica['slots']} slots")
                except BROKEN + (KeyError, TypeError):
                    pass
            self.looks += 1
