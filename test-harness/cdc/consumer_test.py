"""Writes the consumer contract by exercising the real client against the contract's mock server (OC-TEST-7013).

usage: consumer_test.py [--write]     without --write the outcome must equal contracts/pact/ byte for byte
Needs pact-python (ci/requirements.txt).
"""

import pathlib
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

from pact import Pact, match  # noqa: E402

import sse  # noqa: E402
import states  # noqa: E402
from orch_queue import OrchQueue, OrchQueueError  # noqa: E402

COMMITTED = ROOT / "contracts/pact"
NAME = "orch-queue-client-orchestratord.json"
CORRELATION = {"X-Correlation-Id": match.regex("req-1", regex=r"^[A-Za-z0-9._-]{1,128}$")}
STREAM = ('id: 1\nevent: started\ndata: {"queue_position":0,"predicted_start_ms":0}\n\n'
          'id: 2\nevent: token\ndata: {"t":" there","i":0}\n\nid: 3\nevent: end\ndata: '
          '{"tokens_out":1,"decode_ms":9,"accelerator":"cpu","numeric_class":"X"}\n\n')
# For the contract's own engine (Oniguruma): a leading comment or metrics event may come first, one terminal event comes last.
STREAM_REGEX = (r"\A(:[^\n]*\n\n|event: metrics\ndata: [^\n]*\n\n)*id: 1\nevent: started\ndata: \{[^\n]*\}\n\n[\s\S]*"
                r"id: \d+\nevent: (end|error)\ndata: \{[^\n]*\}\n\n\z")


def failure(code, **fields):
    return {"code": code, "message": match.like("why"), "retriable": match.boolean(True), **fields}


def new_pact():
    return Pact("orch-queue-client", "orchestratord").with_specification("V4")


def add(pact, description, state, method, path, body=None):
    interaction = pact.upon_receiving(description).given(state).with_request(method, path)
    if body is not None:
        interaction.with_body(body, "application/json")
    return interaction


def admitted(pact):
    (add(pact, "a new task", states.HAS_ROOM, "POST", "/v1/tasks", states.task(states.NEW_TASK, 4))
     .will_respond_with(202).with_headers(CORRELATION)
     .with_body({"task_id": states.NEW_TASK, "queue_position": match.integer(0), "predicted_start_ms": match.integer(0),
                 "backoff_ms": match.integer(0)}, "application/json"))


def streamed(pact):
    (add(pact, "the stream of a task", states.POSTED, "GET", f"/v1/tasks/{states.STREAM_TASK}/stream")
     .will_respond_with(200).with_headers(CORRELATION)
     .with_body(STREAM, "text/event-stream")
     .with_matching_rules({"body": {"$": {"combine": "AND", "matchers": [{"match": "regex", "regex": STREAM_REGEX}]}}}))


def canceled(pact):
    (add(pact, "the cancel of a live task", states.WAITING, "POST", f"/v1/tasks/{states.CANCEL_TASK}/cancel")
     .will_respond_with(204).with_headers(CORRELATION))


def bad_request(pact):
    (add(pact, "a task without room for a token", states.HAS_ROOM, "POST", "/v1/tasks", states.task(states.NEW_TASK, 0))
     .will_respond_with(400).with_headers(CORRELATION)
     .with_body({**failure("INVALID_PARAMS", field="max_tokens"), "retriable": False}, "application/json"))


def not_found(pact):
    (add(pact, "the cancel of an unknown task", states.NO_SUCH_TASK, "POST", f"/v1/tasks/{states.UNKNOWN_TASK}/cancel")
     .will_respond_with(404).with_headers(CORRELATION)
     .with_body({**failure("NOT_FOUND"), "retriable": False}, "application/json"))


def full(pact):
    (add(pact, "a task for a full queue", states.FULL, "POST", "/v1/tasks", states.task(states.REFUSED_TASK, 5))
     .will_respond_with(429)
     .with_headers({**CORRELATION, "Retry-After": match.regex("2", regex=r"^[1-9]\d*$"), "X-Backoff-Ms": match.regex("1250", regex=r"^\d+$")})
     .with_body(failure("ADMISSION_REJECT", retry_after_ms=match.integer(1250), policy_label="reject"), "application/json"))


def unready(pact):
    (add(pact, "a task for a model without a ready replica", states.UNREADY, "POST", "/v1/tasks",
         states.task(states.UNREADY_TASK, 4, model_ref=states.UNREADY_MODEL))
     .will_respond_with(503).with_headers(CORRELATION)
     .with_body(failure("POOL_UNREADY"), "application/json"))


INTERACTIONS = (admitted, streamed, canceled, bad_request, not_found, full, unready)


class Consumer(unittest.TestCase):
    def serve(self, interaction, use):
        """One interaction on a mock server of its own; an unused or mismatched one fails."""
        pact = new_pact()
        interaction(pact)
        with pact.serve(addr="127.0.0.1") as server:
            return use(OrchQueue(str(server.url)))

    def refused(self, interaction, task):
        with self.assertRaises(OrchQueueError) as caught:
            self.serve(interaction, lambda client: client.submit(task))
        return caught.exception

    def test_ORCH_2001_a_task_is_admitted(self):
        admission = self.serve(admitted, lambda client: client.submit(states.task(states.NEW_TASK, 4)))
        self.assertEqual((admission.task_id, admission.queue_position), (states.NEW_TASK, 0))

    def test_ORCH_2002_a_stream_is_read_to_its_end(self):
        events = self.serve(streamed, lambda client: list(client.stream(states.STREAM_TASK)))
        self.assertEqual([event.name for event in events], ["started", "token", "end"])
        self.assertEqual(sse.task_stream_violations(events), [])

    def test_ORCH_2003_a_cancel_has_no_body(self):
        self.serve(canceled, lambda client: client.cancel(states.CANCEL_TASK))

    def test_ORCH_2003_an_unknown_task_is_not_found(self):
        with self.assertRaises(OrchQueueError) as caught:
            self.serve(not_found, lambda client: client.cancel(states.UNKNOWN_TASK))
        self.assertEqual((caught.exception.status, caught.exception.code), (404, "NOT_FOUND"))

    def test_ORCH_2006_a_bad_task_names_its_field(self):
        error = self.refused(bad_request, states.task(states.NEW_TASK, 0))
        self.assertEqual((error.status, error.code, error.field, error.retriable), (400, "INVALID_PARAMS", "max_tokens", False))

    def test_ORCH_2007_a_full_queue_says_when_to_come_back(self):
        error = self.refused(full, states.task(states.REFUSED_TASK, 5))
        self.assertEqual((error.status, error.code, error.retry_after_ms, error.policy_label), (429, "ADMISSION_REJECT", 1250, "reject"))

    def test_OC_CTRL_2082_an_unready_pool_is_retriable(self):
        error = self.refused(unready, states.task(states.UNREADY_TASK, 4, model_ref=states.UNREADY_MODEL))
        self.assertEqual((error.status, error.code, error.retriable), (503, "POOL_UNREADY", True))

    def test_OC_TEST_7013_the_committed_pact_is_this_one(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual((COMMITTED / NAME).read_text(encoding="utf-8"), write_pact(folder))


def write_pact(folder):
    pact = new_pact()
    for interaction in INTERACTIONS:
        interaction(pact)
    pact.write_file(folder, overwrite=True)
    path = pathlib.Path(folder) / NAME
    path.write_text(path.read_text(encoding="utf-8").rstrip("\n") + "\n", encoding="utf-8")
    return path.read_text(encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        COMMITTED.mkdir(parents=True, exist_ok=True)
        write_pact(COMMITTED)
        sys.exit(0)
    unittest.main()
