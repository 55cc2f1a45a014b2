"""Tests of the SSE parser and of the stream rules: a good stream, and one damage per rule."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import sse  # noqa: E402

GOOD = (b'id: 1\nevent: started\ndata: {"queue_position":0,"predicted_start_ms":0}\n\n'
        b": keep-alive\n\n"
        b'event: metrics\ndata: {"queue_depth":1}\n\n'
        b'id: 2\nevent: token\ndata: {"t":"a","i":0}\n\n'
        b'id: 3\nevent: token\ndata: {"t":"\xc3\xa4","i":1}\n\n'
        b'id: 4\nevent: end\ndata: {"tokens_out":2,"decode_ms":5,"accelerator":"cpu","numeric_class":"X"}\n\n')


def violations(raw):
    events, broken = sse.parse(raw)
    return broken + sse.task_stream_violations(events)


class Sse(unittest.TestCase):
    def test_OC_CTRL_2020_a_good_stream_passes_however_it_is_split(self):
        whole, broken = sse.parse(GOOD)
        self.assertEqual((broken, violations(GOOD)), ([], []))
        self.assertEqual([event.name for event in whole], ["started", "metrics", "token", "token", "end"])
        for size in (1, 2, 3, 7, 50):
            parser = sse.Parser()
            events = [event for at in range(0, len(GOOD), size) for event in parser.feed(GOOD[at : at + size])]
            self.assertEqual(events, whole)
            self.assertEqual(parser.comments, 1)

    def test_line_ends_bom_and_joined_data(self):
        self.assertEqual(sse.parse(GOOD.replace(b"\n", b"\r\n"))[0], sse.parse(GOOD)[0])
        events, _ = sse.parse(b"\xef\xbb\xbfdata: a\rdata:b\r\r\n")
        self.assertEqual([(event.name, event.data) for event in events], [("message", "a\nb")])

    def test_OC_CTRL_2022_each_damage_is_seen(self):
        damage = [
            (b"event: started\ndata", b"event: started\n\ndata", "without data"),  # a blank line makes two messages
            (b"event: token\n", b"event: chunk\n", "unknown event"),
            (b'"i":1', b'"i":2', "expected 1"),
            (b'"i":0', b'"i":1', "expected 0"),
            (b"id: 3\n", b"id: 5\n", "expected 3"),
            (b"id: 3\n", b"", "carries no id"),
            (b"event: metrics\n", b"id: 9\nevent: metrics\n", "carries an id"),
            (b'{"t":"a","i":0}', b'{"t":"a","i":0', "not JSON"),
            (b'"decode_ms":5', b'"ms":5', "missing"),
            (b"\xc3\xa4", b"\xc3", "not UTF-8"),
            (GOOD[GOOD.index(b"id: 4") :], b"", "no terminal"),
            (b'"numeric_class":"X"}\n\n', b'"numeric_class":"X"}\n', "ends inside"),
            (b'"numeric_class":"X"}\n\n', b'"numeric_class":"X"}\n\nid: 5\nevent: token\ndata: {"t":"x","i":2}\n\n', "after the terminal"),
            (GOOD[: GOOD.index(b": keep")], b"", "`started` must be first"),
            (b"event: end\n", b"evnt: end\n", "unknown field"),
        ]
        for old, new, expected in damage:
            with self.subTest(expected=expected, new=new):
                self.assertIn(old, GOOD)
                found = violations(GOOD.replace(old, new))
                self.assertTrue(any(expected in text for text in found), found)


if __name__ == "__main__":
    unittest.main()
