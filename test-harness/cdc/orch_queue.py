"""A client of OrchQueue v1, as small as a real consumer's: submit, stream, cancel, typed failures. Standard library only."""

import contextlib
import dataclasses
import http.client
import json
import urllib.parse

import sse


class OrchQueueError(Exception):
    """A refusal: what the error envelope and the back-off headers say."""

    def __init__(self, status, envelope, headers):
        super().__init__(f"{status} {envelope.get('code')}: {envelope.get('message')}")
        self.status = status
        self.code = envelope["code"]
        self.field = envelope.get("field")
        self.retriable = envelope["retriable"]
        self.retry_after_ms = envelope.get("retry_after_ms")
        self.policy_label = envelope.get("policy_label")
        if status == 429:
            check_backoff(envelope, headers)


def check_backoff(envelope, headers):
    """ORCH-2007: three ways to say the same time."""
    ms = envelope["retry_after_ms"]
    if int(headers["X-Backoff-Ms"]) != ms:
        raise ValueError(f"X-Backoff-Ms {headers['X-Backoff-Ms']} is not retry_after_ms {ms}")
    if int(headers["Retry-After"]) != max(1, -(-ms // 1000)):
        raise ValueError(f"Retry-After {headers['Retry-After']} is not {ms} ms rounded up")


@dataclasses.dataclass
class Admission:
    task_id: str
    queue_position: int
    predicted_start_ms: int
    backoff_ms: int


class OrchQueue:
    def __init__(self, base_url, timeout=30):
        url = urllib.parse.urlsplit(base_url)
        self._address = (url.hostname, url.port)
        self._timeout = timeout

    def _request(self, method, path, body=None, headers=None):
        """(connection, reply) of a success with its body unread; a refusal is raised."""
        connection = http.client.HTTPConnection(*self._address, timeout=self._timeout)
        headers = dict(headers or {})
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body)
        try:
            connection.request(method, path, data, headers)
            reply = connection.getresponse()
            if not reply.headers.get("X-Correlation-Id"):
                raise ValueError(f"{method} {path}: no X-Correlation-Id")
            if reply.status >= 400:
                raise OrchQueueError(reply.status, json.loads(reply.read()), reply.headers)
        except BaseException:
            connection.close()
            raise
        return connection, reply

    def submit(self, task):
        connection, reply = self._request("POST", "/v1/tasks", task)
        with contextlib.closing(connection):
            if reply.status != 202:
                raise ValueError(f"status {reply.status}")
            body = json.loads(reply.read())
            # A consumer reads what it needs; fields it does not know are not its business.
            return Admission(**{field.name: body[field.name] for field in dataclasses.fields(Admission)})

    def stream(self, task_id, last_event_id=None):
        """Yields sse.Event until the server closes."""
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = str(last_event_id)
        connection, reply = self._request("GET", f"/v1/tasks/{task_id}/stream", headers=headers)
        parser = sse.Parser()
        with contextlib.closing(connection), contextlib.closing(reply):
            if not reply.headers["Content-Type"].startswith("text/event-stream"):
                raise ValueError(f"Content-Type {reply.headers['Content-Type']}")
            while chunk := reply.read1(65536):
                yield from parser.feed(chunk)
        parser.close()
        if parser.violations:
            raise ValueError(f"not a valid event stream: {parser.violations}")

    def cancel(self, task_id):
        connection, reply = self._request("POST", f"/v1/tasks/{task_id}/cancel")
        with contextlib.closing(connection):
            if reply.status != 204:
                raise ValueError(f"status {reply.status}")
