"""Tests of check_metrics.py: one good page, and one mutation for every rule that must turn it red."""

import pathlib
import sys
import unittest

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "ci/scripts"), str(ROOT / "ci/tools")]

import check_metrics  # noqa: E402
import gen_metrics  # noqa: E402

CONTRACT = gen_metrics.load(ROOT / "contracts/metrics.yaml")
SAMPLE_VALUES = {"engine": "native", "priority": "interactive", "policy": "reject", "accelerator": "cpu", "numeric_class": "X"}


def page(process="orchestratord"):
    """A page with one series of every built family of a process."""
    lines = []
    for family in CONTRACT["families"]:
        if family["process"] != process or not family["built"]:
            continue
        name = family["name"]
        lines += [f"# HELP {name} {family['help']}", f"# TYPE {name} {family['type']}"]
        labels = ",".join(f'{label}="{family["values"].get(label, ["v"])[0] if label not in SAMPLE_VALUES else SAMPLE_VALUES[label]}"'
                          for label in family["labels"])
        own = f"{{{labels}}}" if labels else ""
        before_bound = labels + "," if labels else ""
        if family["type"] == "histogram":
            for count, bound in enumerate(family["buckets"]):
                lines.append(f'{name}_bucket{{{before_bound}le="{bound}"}} {count}')
            lines += [f'{name}_bucket{{{before_bound}le="+Inf"}} 50', f"{name}_sum{own} 12.5", f"{name}_count{own} 50"]
        else:
            lines.append(f"{name}{{{labels}}} 1" if labels else f"{name} 1")
    return "\n".join(lines) + "\n"


class CheckMetrics(unittest.TestCase):
    def check(self, text, process="orchestratord", require=()):
        return check_metrics.check(text, CONTRACT, process, require)

    def test_ORCH_2008_engine_names_are_one_closed_set(self):
        names = CONTRACT["labels"]["engine"]["values"]
        self.assertEqual(names, ["native", "llamacpp", "vllm", "tgi", "triton", "sglang", "mlx", "ollama", "openai", "mock"])
        shared = yaml.safe_load((ROOT / "contracts/openapi/common.yaml").read_text(encoding="utf-8"))
        self.assertEqual(shared["components"]["schemas"]["Engine"]["enum"], names)
        self.assertTrue(self.check(page().replace('engine="native"', 'engine="llama.cpp"')))

    def test_OC_METRICS_7101_good_pages_pass(self):
        self.assertEqual(self.check(page()), [])
        self.assertEqual(self.check(page("pool-managerd"), "pool-managerd"), [])

    def assert_red(self, old, new, expected, **kwargs):
        self.assertIn(old, page())
        errors = self.check(page().replace(old, new), **kwargs)
        self.assertTrue(any(expected in error for error in errors), errors)

    def test_OC_METRICS_7101_each_mutation_is_seen(self):
        mutations = [
            ("tasks_started_total", "tasks_begun_total", "not in the contract"),
            ("# TYPE queue_depth gauge", "# TYPE queue_depth counter", "must be gauge"),
            ("# HELP queue_depth Tasks waiting.", "# HELP queue_depth Jobs.", "HELP must be"),
            ("# TYPE queue_depth gauge\n", "", "TYPE is missing"),
            ('queue_depth{engine="native",', 'queue_depth{engine="native",replica_id="r",', "labels are"),
            ('tasks_rejected_total{engine="native",reason="ADMISSION_REJECT"}', 'tasks_rejected_total{engine="native"}', "labels are"),
            ('tasks_rejected_total{engine="native",reason="ADMISSION_REJECT"}',
             'tasks_rejected_total{engine="native",reason="BECAUSE"}', "is none of"),
            ('queue_depth{engine="native"', 'queue_depth{engine="llama"', "is none of"),
            ('le="150"', 'le="151"', "buckets"),
            ('_bucket{engine="native",engine_version="v",pool_id="v",priority="interactive",le="50"} 0',
             '_bucket{engine="native",engine_version="v",pool_id="v",priority="interactive",le="50"} 9', "bucket counts fall"),
            ("latency_decode_ms_count{", "latency_decode_ms_sum{", "given twice"),
            ("streams_open 1\n", "streams_open 1\nstreams_open 2\n", "given twice"),
            ("streams_open 1\n", "streams_open one\n", "not a sample"),
            ("streams_open 1\n", "", "streams_open: has no series"),
            ("} 50\n", "} -50\n", "value -50"),
        ]
        for old, new, expected in mutations:
            with self.subTest(old=old, new=new):
                self.assert_red(old, new, expected)

    def test_reserved_and_foreign_families_are_refused(self):
        for name in ("gpu_utilization", "vram_used_bytes"):
            self.assertTrue(any("reserved" in e for e in self.check(page() + f"# TYPE {name} gauge\n")), name)
        self.assertTrue(any("exported by pool-managerd" in e for e in self.check(page() + "# TYPE pool_ready gauge\n")))

    def test_required_family_without_series_is_seen(self):
        text = "\n".join(line for line in page().splitlines() if "tokens_out_total" not in line) + "\n"
        self.assertEqual(self.check(text), [])
        self.assertTrue(self.check(text, require=["tokens_out_total"]))
        self.assertTrue(self.check(page(), require=["no_such_family"]))

    def test_OC_METRICS_7102_too_many_series_are_seen(self):
        lines = "".join(f'active_leases{{pool_id="p",replica_id="r{i}"}} 1\n' for i in range(1025))
        errors = self.check(page("pool-managerd") + lines, "pool-managerd")
        self.assertTrue(any("at most 1024" in e for e in errors), errors)
        self.assertTrue(any("label replica_id" in e for e in errors), errors)

    def test_ruling_15_trtllm_version_only_on_triton(self):
        text = page()
        native = text.replace('queue_depth{engine="native",', 'queue_depth{engine="native",trtllm_version="1",')
        triton = text.replace('queue_depth{engine="native",', 'queue_depth{engine="triton",trtllm_version="1",')
        bare_triton = text.replace('queue_depth{engine="native",', 'queue_depth{engine="triton",')
        self.assertTrue(self.check(native))
        self.assertEqual(self.check(triton), [])
        self.assertTrue(self.check(bare_triton))


if __name__ == "__main__":
    unittest.main()
