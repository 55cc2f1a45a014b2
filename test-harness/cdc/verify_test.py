"""The verification itself can fail: a stand-in that keeps the contract is accepted, and with one breach it is refused.

The stand-in exists for this test only; the product is verified by provider_test.py. Needs pact-python.
"""

import http.server
import json
import pathlib
import sys
import threading
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import states  # noqa: E402
import verify  # noqa: E402

CAPACITY = 3
STREAM = ("id: 1\nevent: started\ndata: {}\n\nevent: metrics\ndata: {}\n\n"
          "id: 2\nevent: token\ndata: {}\n\nid: 3\nevent: end\ndata: {}\n\n")


class StandIn(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=None, headers=None, kind="application/json"):
        status = self.server.breach.get(f"status {status}", status)
        data = b"" if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        headers = {"X-Correlation-Id": "c-1", **(headers or {}), **self.server.breach.get("headers", {})}
        if body is not None:
            headers["Content-Type"] = kind
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def fail(self, status, code, headers=None, **fields):
        body = {"code": code, "message": "because", "retriable": status in (429, 503), **fields}
        body.update(self.server.breach.get(f"body {status}", {}))
        self.answer(status, {key: value for key, value in body.items() if value is not None}, headers)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        tasks, parts = self.server.tasks, self.path.split("/")
        if self.path.endswith("/cancel"):
            if parts[3] not in tasks:
                return self.fail(404, "NOT_FOUND")
            tasks.pop(parts[3])
            return self.answer(204)
        if body["model_ref"] != states.MODEL:
            return self.fail(503, "POOL_UNREADY")
        if body["max_tokens"] < 1:
            return self.fail(400, "INVALID_PARAMS", field="max_tokens")
        if sum(1 for task in tasks.values() if task.get("detached")) >= CAPACITY:
            return self.fail(429, "ADMISSION_REJECT", {"Retry-After": "2", "X-Backoff-Ms": "1100"}, retry_after_ms=1100,
                             policy_label="reject")
        tasks[body["task_id"]] = body
        admission = {"task_id": body["task_id"], "queue_position": 0, "predicted_start_ms": 0, "backoff_ms": 0}
        admission.update(self.server.breach.get("body 202", {}))
        return self.answer(202, {key: value for key, value in admission.items() if value is not None})

    def do_GET(self):
        self.answer(200, self.server.breach.get("stream", STREAM), kind=self.server.breach.get("kind", "text/event-stream"))


class Verify(unittest.TestCase):
    def verify(self, breach):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
        server.tasks, server.breach = {}, breach
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            return verify.verify(f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def test_OC_TEST_7010_what_keeps_the_contract_is_accepted(self):
        accepted, report = self.verify({})
        self.assertTrue(accepted, report)

    def test_OC_TEST_7010_each_breach_is_refused(self):
        breaches = [
            {"status 202": 200}, {"status 400": 422}, {"status 404": 204}, {"status 503": 500}, {"status 204": 200},
            {"body 202": {"queue_position": "0"}}, {"body 202": {"backoff_ms": None}}, {"body 202": {"task_id": states.UNKNOWN_TASK}},
            {"body 400": {"field": "prompt"}}, {"body 400": {"retriable": True}}, {"body 404": {"code": "GONE"}},
            {"body 503": {"code": "INTERNAL"}}, {"body 429": {"code": "QUEUE_FULL_DROP_LRU"}},
            {"headers": {"X-Correlation-Id": None}}, {"headers": {"X-Correlation-Id": "a b"}},
            {"kind": "text/plain"}, {"stream": STREAM.replace("id: 3\nevent: end", "id: 3\nevent: done")},
            {"stream": STREAM.replace("id: 1\n", "")},
        ]
        for breach in breaches:
            with self.subTest(breach=breach):
                self.assertFalse(self.verify(breach)[0])


if __name__ == "__main__":
    unittest.main()
