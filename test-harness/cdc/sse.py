"""Server-sent events as the WHATWG standard parses them, and the rules of an OrchQueue stream on top (OC-CTRL-2020..2029)."""

import dataclasses
import json

TERMINALS = ("end", "error")
NUMBERED = ("started", "token", "end", "error")


@dataclasses.dataclass
class Event:
    name: str
    data: str
    id: str  # the last id seen, as a browser's lastEventId
    own_id: bool  # this event carried an id field

    def json(self):
        return json.loads(self.data)


class Parser:
    """Fed bytes in any split; yields complete events. Comments are counted, not yielded."""

    def __init__(self):
        self.comments = 0
        self.violations = []
        self._rest = b""
        self._first = True
        self._last_id = ""
        self._reset()

    def _reset(self):
        self._data, self._name, self._own_id = [], "", False

    def feed(self, chunk):
        self._rest += chunk
        while True:
            line, self._rest, complete = self._next_line(self._rest)
            if not complete:
                return
            event = self._take(line)
            if event:
                yield event

    def close(self):
        """The end of the stream; an unfinished event is lost to every reader, so it is a violation."""
        if self._rest or self._data or self._name:
            self.violations.append("the stream ends inside an event")

    @staticmethod
    def _next_line(data):
        ends = [at for at in (data.find(b"\n"), data.find(b"\r")) if at >= 0]
        if not ends:
            return b"", data, False
        at = min(ends)
        if data[at : at + 1] == b"\r":
            if at + 1 == len(data):
                return b"", data, False  # a "\n" may follow
            return data[:at], data[at + (2 if data[at + 1 : at + 2] == b"\n" else 1) :], True
        return data[:at], data[at + 1 :], True

    def _take(self, line):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            self.violations.append(f"a line is not UTF-8: {line[:60]!r}")
            return None
        if self._first:
            text, self._first = text.removeprefix("\ufeff"), False
        if not text:
            return self._dispatch()
        if text.startswith(":"):
            self.comments += 1
            return None
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id":
            self._own_id = True
            if "\0" not in value:
                self._last_id = value
        elif name != "retry":
            self.violations.append(f"unknown field {name!r}")
        return None

    def _dispatch(self):
        event = None
        if self._data:
            event = Event(self._name or "message", "\n".join(self._data), self._last_id, self._own_id)
        elif self._name or self._own_id:
            self.violations.append(f"an event {self._name!r} without data, which readers drop")
        self._reset()
        return event


def parse(raw):
    parser = Parser()
    events = list(parser.feed(raw))
    parser.close()
    return events, parser.violations


def task_stream_violations(events, first_id=1):
    """What of a whole OrchQueue stream breaks its rules; `first_id` > 1 for a resumed one."""
    out = []
    fields = {"started": {"queue_position", "predicted_start_ms"}, "token": {"t", "i"},
              "end": {"tokens_out", "decode_ms", "accelerator", "numeric_class"}, "error": {"code", "message", "retriable"}}
    expected_id, tokens, ended = first_id, None if first_id > 1 else 0, False
    for index, event in enumerate(events):
        if ended:
            out.append(f"{event.name} after the terminal event")
        if event.name not in NUMBERED + ("metrics",):
            out.append(f"unknown event {event.name}")
            continue
        try:
            body = event.json()
        except json.JSONDecodeError:
            out.append(f"{event.name}: data is not JSON")
            continue
        missing = fields.get(event.name, set()) - set(body)
        if missing:
            out.append(f"{event.name}: {sorted(missing)} missing")
        if first_id == 1 and (event.name == "started") != (index == 0):
            out.append("`started` must be first and only first")
        if event.own_id != (event.name in NUMBERED):
            out.append(f"{event.name} {'carries an id' if event.own_id else 'carries no id'}")
        if event.name in NUMBERED:
            if event.own_id and event.id != str(expected_id):
                out.append(f"{event.name}: id {event.id}, expected {expected_id}")
            expected_id += 1
        if event.name == "token":
            tokens = body.get("i") if tokens is None else tokens
            if body.get("i") != tokens:
                out.append(f"token: i is {body.get('i')}, expected {tokens}")
            tokens += 1
        ended = ended or event.name in TERMINALS
    if not ended:
        out.append("no terminal event")
    return out
