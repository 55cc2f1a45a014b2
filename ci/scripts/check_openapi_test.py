"""Tests of check_openapi.py: the committed contract passes, and each kind of damage to a copy of it is seen."""

import pathlib
import shutil
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "ci/scripts"))

import check_openapi  # noqa: E402

DAMAGE = [
    ("data.yaml", "common.yaml#/components/responses/Conflict", "common.yaml#/components/responses/Conflit", "leads nowhere"),
    ("data.yaml", "operationId: cancelTask", "operationId: createTask", "operationId is missing or repeated"),
    ("data.yaml", "x-req-id: [ORCH-2003, ", "x-req-id: [ORCH-" "2999, ", "2999 is not specified"),
    ("control.yaml", "x-req-id: [OC-CTRL-2074]", "x-req-ids: [OC-CTRL-2074]", "x-req-id is missing"),
    ("common.yaml", "enum: [ADMISSION_REJECT, QUEUE_FULL_DROP_LRU, BUDGET_EXHAUSTED, INVALID_PARAMS",
     "enum: [ADMISSION_REJECT, BUDGET_EXHAUSTED, INVALID_PARAMS", "OutcomeCode must be"),
    ("data.yaml", "CANCELED, SLOW_CONSUMER", "SLOW_CONSUMER", "StreamCode must be"),
    ("common.yaml", "x-outcomes: [CONFLICT]", "x-outcomes: [NOT_FOUND]", "NOT_FOUND has the status 404"),
    ("common.yaml", "x-outcomes: [CONFLICT]", "x-outcomes: [STALE_LEASE]", "no outcome that leaves the cluster"),
    ("common.yaml", "{code: CONFLICT, message:", "{code: NOT_FOUND, message:", "is not in x-outcomes"),
    ("common.yaml", "      x-outcomes: [PAYLOAD_TOO_LARGE]\n", "", "x-outcomes is missing"),
    ("data.yaml", "                task_id: 6a1d0c1e-52ba-4b7e-9b39-2f6f3f1c7f10\n                queue_position: 0",
     "                queue_position: 0",
     "task_id is missing"),
    ("data.yaml", "max_tokens: 16, seed: 7}}", "max_tokens: 0, seed: 7}}", "out of range"),
    ("data.yaml", 'prompt: "The sea", ', "", "fits 0 of oneOf"),
    ("control.yaml", '              example: "ok\\n"\n', "", "has no example"),
    ("control.yaml", "          headers: {X-Correlation-Id: {$ref: \"common.yaml#/components/headers/CorrelationId\"}}\n", "",
     "X-Correlation-Id must be"),
    ("common.yaml", "        Retry-After: {$ref: \"#/components/headers/RetryAfter\"}\n", "", "Retry-After must be"),
    ("common.yaml", "maximum: 1048576, x-limit: kMaxTokensMax", "maximum: 4096, x-limit: kMaxTokensMax", "kMaxTokensMax is 1048576"),
]


class CheckOpenApi(unittest.TestCase):
    def test_OC_CTRL_2030_the_committed_contract_passes(self):
        self.assertEqual(check_openapi.check(ROOT), [])

    def test_OC_CTRL_2030_each_damage_is_seen(self):
        for name, old, new, expected in DAMAGE:
            with self.subTest(expected=expected), tempfile.TemporaryDirectory() as folder:
                root = pathlib.Path(folder)
                for part in ("contracts", ".specs", "orchestratord/shell"):
                    shutil.copytree(ROOT / part, root / part)
                path = root / "contracts/openapi" / name
                text = path.read_text(encoding="utf-8")
                self.assertIn(old, text)
                path.write_text(text.replace(old, new), encoding="utf-8")
                errors = check_openapi.check(root)
                self.assertTrue(any(expected in error for error in errors), errors)


if __name__ == "__main__":
    unittest.main()
