"""Each refusal of the haiku gate, red once: a mock engine, no /metrics, a fixture, a prepared answer, a template."""

import hashlib
import http.server
import json
import re
import subprocess
import threading

import pytest

import anti_cheat
import haiku_gate
from orch_cluster import Cluster, mock_pool


def test_minute_words():
    assert [haiku_gate.minute_in_words(m) for m in (0, 7, 13, 20, 42, 59)] == ["zero", "seven", "thirteen", "twenty", "forty-two", "fifty-nine"]


def test_acceptance_needs_lines_minute_and_nonce():
    good = "one forty-two\ntwo abcdefgh\nthree"
    assert haiku_gate.accepted(good, "forty-two", "abcdefgh")
    assert not haiku_gate.accepted(good, "forty-three", "abcdefgh")
    assert not haiku_gate.accepted(good, "forty-two", "abcdefgx")
    assert not haiku_gate.accepted("one forty-two abcdefgh\n\ntwo", "forty-two", "abcdefgh")


def judged(*places):
    """The verdict on (times, margin of the reference's first two, which candidate was taken or None)."""
    judgement = haiku_gate.Judgement()
    for times, margin, taken in places:
        for _ in range(times):
            candidates = [(10, -0.5), (11, -0.5 - margin), (12, -0.6 - margin)]
            judgement.add(0, 99 if taken is None else candidates[taken][0], candidates)
    return judgement.verdict()


def test_OC_HAIKU_1006_first_choices_are_accepted():
    assert judged((512, 1.0, 0))["accepted"]


def test_OC_HAIKU_1006_near_ties_may_part_and_are_counted():
    verdict = judged((480, 1.0, 0), (32, 0.1, 1))
    assert verdict["accepted"] and verdict["top1_share"] == 0.9375 and verdict["clear_tokens"] == 480


def test_OC_HAIKU_1006_one_percent_elsewhere_is_too_much():
    assert judged((990, 1.0, 0), (10, 0.3, 1))["accepted"]
    assert not judged((989, 1.0, 0), (11, 0.3, 1))["accepted"]


def test_OC_HAIKU_1006_a_token_half_a_nat_away_is_refused():
    assert not judged((999, 1.0, 0), (1, 0.51, 1))["accepted"]
    assert not judged((999, 1.0, 0), (1, 0.19, None))["accepted"]


def test_OC_HAIKU_1006_only_near_ties_prove_nothing():
    assert not judged((512, 0.1, 0))["accepted"]


def test_another_device_than_the_demanded_one_is_refused():
    assert haiku_gate.wrong_accelerator({"accelerator": "cpu"}, "vulkan") == "served by cpu, demanded is vulkan"
    assert haiku_gate.wrong_accelerator({"accelerator": "software-vulkan"}, "vulkan")
    assert haiku_gate.wrong_accelerator({}, "vulkan")
    assert haiku_gate.wrong_accelerator({"accelerator": "vulkan"}, "vulkan") is None
    assert haiku_gate.wrong_accelerator({"accelerator": "cpu"}, None) is None


def test_a_mock_engine_is_refused():
    with Cluster([mock_pool()]) as cluster:
        cluster.wait_ready()
        _, reasons = haiku_gate.evaluate(haiku_gate.Gateway(cluster.url, "mock-model"))
    assert any("mock" in r for r in reasons), reasons


class Template(http.server.BaseHTTPRequestHandler):
    """A cheat: reads minute and nonce out of the prompt and fills a template. Its counters are made up."""

    metrics = True
    counter = 0
    accelerator = "vulkan"
    failures = 0  # answers that say nothing, first

    def do_GET(self):  # pylint: disable=invalid-name
        if self.path != "/metrics" or not type(self).metrics:
            self.send_error(404)
            return
        text = (f'tokens_out_total{{engine="native"}} {type(self).counter}\n'
                'replica_info{engine="native",engine_version="1",model_digest="sha256:00",accelerator="vulkan"} 1\n')
        self._reply(200, text.encode(), "text/plain")

    def do_POST(self):  # pylint: disable=invalid-name
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/v1/tasks":
            type(self).task = body
            self._reply(202, b"{}", "application/json")
            return
        words = [w for w in body["messages"][-1]["content"].split('"') if w][1:4:2]
        type(self).counter += 12
        if type(self).failures > 0:
            type(self).failures -= 1
            words = ["a"]
        self._reply(200, json.dumps({"choices": [{"message": {"content": "\n".join([*words, "a", "b"])}}], "usage": {"completion_tokens": 12}}).encode(),
                    "application/json")

    def _reply(self, status, data, kind):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.send_header("x-orch-accelerator", type(self).accelerator)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture(name="cheat")
def cheat_server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Cheat", (Template,), {}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def gateway_of(server):
    return haiku_gate.Gateway(f"http://127.0.0.1:{server.server_address[1]}", "any")


def test_absent_metrics_are_refused(cheat):
    cheat.RequestHandlerClass.metrics = False
    _, reasons = haiku_gate.evaluate(gateway_of(cheat))
    assert reasons == ["/metrics is absent"]


def verdict_of(cheat, accelerator, failures):
    cheat.RequestHandlerClass.accelerator, cheat.RequestHandlerClass.failures = accelerator, failures
    verdict, reasons = haiku_gate.evaluate(gateway_of(cheat))
    assert reasons == []
    assert [a["accepted"] for a in verdict["attempts"]] == [False] * failures + [True], "every attempt is recorded"
    return verdict


def test_OC_HAIKU_1005_a_gpu_at_the_first_attempt_is_a_release(cheat):
    verdict = verdict_of(cheat, "vulkan", 0)
    assert verdict["kind"] == "release" and haiku_gate.release_reasons(verdict) == []


@pytest.mark.parametrize("accelerator, failures", [("vulkan", 1), ("cpu", 0), ("software-vulkan", 0)])
def test_OC_HAIKU_1005_everything_else_is_a_fallback_and_no_release(cheat, accelerator, failures):
    verdict = verdict_of(cheat, accelerator, failures)
    assert verdict["kind"] == "ci-fallback" and haiku_gate.release_reasons(verdict)


def test_OC_HAIKU_1007_a_transcript_keeps_count_and_hash_of_a_poem(cheat):
    verdict, _ = haiku_gate.evaluate(gateway_of(cheat))
    attempt = verdict["attempts"][0]
    poem = "\n".join([attempt["minute_words"], attempt["nonce"], "a", "b"])
    assert attempt["sha256"] == hashlib.sha256(poem.encode()).hexdigest() and attempt["tokens"] == 12
    assert poem.split("\n", 1)[1] not in json.dumps(verdict) and "text" not in attempt


def test_OC_HAIKU_1007_OC_TEST_7012_the_product_knows_neither_the_gate_nor_a_test_mode():
    """The command line asks for a haiku, as anybody may; nothing that serves one knows of it."""
    product = ("orchestratord/", "pool-managerd/", "worker/", "adapters/", "common/", "proto/", "contracts/")
    tests = re.compile(r"_test\.(cc|py)$|_fuzz\.cc$|_testing\.h$|_fixture\.h$|/test(ing|data)?/")
    gate = re.compile(r"haiku|REQUIRE_REAL_LLAMA|Europe/Amsterdam|LLAMA_ORCH_(JUDGE|PROOF)", re.IGNORECASE)
    seen = 0
    for path in anti_cheat.tree_files(haiku_gate.ROOT):
        name = path.relative_to(haiku_gate.ROOT).as_posix()
        if not name.startswith(product) or tests.search(name) or path.suffix not in (".cc", ".h", ".comp", ".proto", ".yaml"):
            continue
        seen += 1
        text = path.read_text(encoding="utf-8")
        assert not gate.search(text), f"{name}: {gate.search(text).group()}"
        if "/core/" not in name:  # faults that are built in for the simulator are reachable from no shell
            assert "mutation" not in text.lower() or "mutant" in name, name
    assert seen > 300


def test_a_template_passes_the_text_checks_and_fails_the_judgement(cheat, monkeypatch):
    class NeverItsToken:
        def tokenize(self, _text):
            return [1]

        def next_tokens(self, _ids):
            return [(5, -0.1, "x"), (6, -3.0, "y")]
    monkeypatch.setattr(haiku_gate, "sse_events", lambda *_: [("token", {"t": "y", "i": 0, "ids": [6]}, "2")] * 40)
    _, without = haiku_gate.evaluate(gateway_of(cheat))
    assert without == [], "the cheat is good enough to show why the judgement is needed"
    _, reasons = haiku_gate.evaluate(gateway_of(cheat), judge_with=NeverItsToken())
    assert reasons == ["greedy tokens differ from llama.cpp's"]


def test_a_fixture_and_a_prepared_line_are_found(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert anti_cheat.fixtures(tmp_path) == []
    (tmp_path / "tests/fixtures").mkdir(parents=True)
    (tmp_path / "tests/fixtures/haiku_1.txt").write_text("x")
    assert [p.name for p in anti_cheat.fixtures(tmp_path)] == ["haiku_1.txt"]
    for name, text in {"source.cc": 'f("Forty-Two", "abcdefgh");', "config.yaml": "a: forty-two abcdefgh", "binary": "\0\1forty-two\0abcdefgh\0"}.items():
        path = tmp_path / name
        path.write_text(text)
        assert anti_cheat.files_with_both([path], "forty-two", "abcdefgh") == [path]
    clean = tmp_path / "clean"
    clean.write_text("forty-two\nabcdefgh\n")
    assert anti_cheat.files_with_both([clean], "forty-two", "abcdefgh") == []


def test_the_protocol_demands_its_environment(monkeypatch):
    monkeypatch.delenv("REQUIRE_REAL_LLAMA", raising=False)
    monkeypatch.setenv("TZ", "UTC")
    assert len(haiku_gate.protocol_reasons()) == 2
