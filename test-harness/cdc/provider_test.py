"""Verifies the committed pact and the snapshots against a live cluster (OC-TEST-7013).

The cluster is the real one: orchestratord, pool-managerd and the native worker, started by test-harness/cluster. Needs
pact-python, the built binaries and LLAMA_ORCH_MODEL.
"""

import json
import os
import pathlib
import re
import sys
import unittest
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent / "cluster"), str(ROOT / "ci/scripts"), str(ROOT / "ci/tools")]

import check_metrics  # noqa: E402
import check_openapi  # noqa: E402
import gen_metrics  # noqa: E402
import orch_cluster  # noqa: E402
import sse  # noqa: E402
import states  # noqa: E402
import verify  # noqa: E402

SNAPSHOTS = HERE / "snapshots"
SNAPSHOT_TASK = "6a1d0c1e-52ba-4b7e-9b39-2f6f3f1c7f20"


def keep_proof(folder, name, text):
    """Leaves a piece in the run's proof bundle, when there is one."""
    if bundle := os.environ.get("LLAMA_ORCH_PROOF_DIR"):
        path = pathlib.Path(bundle) / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def cluster():
    """One slot and a queue of two, so that a handful of tasks fills it, and a pool whose model file does not exist."""
    unready = orch_cluster.native_pool(id="unready")
    unready["model"] = {"name": states.UNREADY_MODEL, "path": "no-such-file.gguf"}
    return orch_cluster.Cluster([orch_cluster.native_pool(slots=1), unready],
                                orchestratord={"queue": {"capacity": 2}, "streams": {"reconnect_grace_ms": 1000}})


def normalised_stream(raw):
    """The transcript with what may differ between runs replaced: texts and times. Metrics and comments may be dropped."""
    events, _ = sse.parse(raw)
    lines = []
    for event in events:
        if event.name == "metrics":
            continue
        body = event.json()
        for key in body:
            body[key] = "<ms>" if key.endswith("_ms") else {"t": "<text>", "ids": "<ids>"}.get(key, body[key])
        lines.append(f"id: {event.id}\nevent: {event.name}\ndata: {json.dumps(body, separators=(',', ':'))}\n\n")
    return "".join(lines)


def normalised_admission(status, headers, body):
    known = {"content-type": headers["Content-Type"], "x-correlation-id": re.sub(r"^[A-Za-z0-9._-]{1,128}$", "<id>", headers["X-Correlation-Id"])}
    body = {key: "<ms>" if key.endswith("_ms") else value for key, value in body.items()}
    text = json.dumps({"status": status, "headers": known, "body": body}, indent=2) + "\n"
    return re.sub(r"gateway=[0-9a-f-]{36}", "gateway=<gateway>", text)


class Provider(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.enterClassContext(cluster())
        cls.cluster.wait_ready()

    def test_OC_TEST_7013_the_live_server_honours_the_pact(self):
        accepted, report = verify.verify(self.cluster.url)
        keep_proof("pacts", verify.PACT.name, verify.PACT.read_text(encoding="utf-8"))
        keep_proof("pacts", "verification.txt", report)
        self.assertTrue(accepted, report)

    def test_ORCH_2002_admission_and_stream_equal_their_snapshots(self):
        task = json.dumps(states.task(SNAPSHOT_TASK, 4, temperature=0)).encode()
        request = urllib.request.Request(f"{self.cluster.url}/v1/tasks", task, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as reply:
            admission = normalised_admission(reply.status, reply.headers, json.load(reply))
        with urllib.request.urlopen(f"{self.cluster.url}/v1/tasks/{SNAPSHOT_TASK}/stream", timeout=30) as reply:
            raw = reply.read()
        keep_proof("snapshots", "stream.raw.sse", raw.decode())
        keep_proof("snapshots", "stream.sse", normalised_stream(raw))
        keep_proof("snapshots", "admission.json", admission)
        events, broken = sse.parse(raw)
        self.assertEqual(broken + sse.task_stream_violations(events), [])
        self.assertEqual(admission, (SNAPSHOTS / "admission.json").read_text(encoding="utf-8"))
        self.assertEqual(normalised_stream(raw), (SNAPSHOTS / "stream.sse").read_text(encoding="utf-8"))

    def test_OC_METRICS_7101_the_live_pages_equal_the_contract(self):
        list(states.OrchQueue(self.cluster.url).stream(self._finished_task()))
        contract = gen_metrics.load(ROOT / "contracts/metrics.yaml")
        for process, url in (("orchestratord", self.cluster.url), ("pool-managerd", self.cluster.manager_url)):
            with self.subTest(process=process), urllib.request.urlopen(f"{url}/metrics", timeout=30) as reply:
                text = reply.read().decode()
                keep_proof("metrics", f"{process}.prom", text)
                required = ["tasks_enqueued_total", "tasks_started_total", "tokens_in_total", "tokens_out_total", "queue_depth",
                            "latency_first_token_ms", "latency_decode_ms", "replica_info", "tasks_finished_total"]
                self.assertEqual(check_metrics.check(text, contract, process, required if process == "orchestratord" else []), [])

    def test_OC_POOL_3003_the_live_replica_list_fits_the_contract(self):
        documents = check_openapi.Documents(ROOT / "contracts/openapi")
        schema = documents.by_name["control.yaml"]["components"]["schemas"]["ReplicaList"]
        with urllib.request.urlopen(f"{self.cluster.manager_url}/v1/replicas", timeout=30) as reply:
            listed = json.load(reply)
        self.assertEqual(check_openapi.violations(documents, schema, "control.yaml", listed), [])
        unready = next(replica for replica in listed["replicas"] if replica["pool_id"] == "unready")
        self.assertEqual((unready["state"], unready["routable"], unready["was_ready"]), ("failed", False, False))
        self.assertIn("no-such-file.gguf", unready["last_error"])

    def test_OC_CTRL_2060_live_state_fits_the_contract(self):
        documents = check_openapi.Documents(ROOT / "contracts/openapi")
        for route, name, schema in (("/v1/capabilities", "control.yaml", "Capabilities"), ("/v1/models", "openai.yaml", "ModelList")):
            with self.subTest(route=route), urllib.request.urlopen(f"{self.cluster.url}{route}", timeout=30) as reply:
                schema = documents.by_name[name]["components"]["schemas"][schema]
                self.assertEqual(check_openapi.violations(documents, schema, name, json.load(reply)), [])
        with urllib.request.urlopen(f"{self.cluster.url}/v1/replicasets", timeout=30) as reply:
            schema = documents.by_name["control.yaml"]["components"]["schemas"]["ReplicaSet"]
            for row in json.load(reply):
                self.assertEqual(check_openapi.violations(documents, schema, "control.yaml", row), [])

    def _finished_task(self):
        task_id = "6a1d0c1e-52ba-4b7e-9b39-2f6f3f1c7f21"
        states.OrchQueue(self.cluster.url).submit(states.task(task_id, 4))
        return task_id


if __name__ == "__main__":
    unittest.main(verbosity=2)
