"""The generated JSON Schemas are valid and judge as the parsers do; the snapshots fit the OpenAPI schemas. Needs jsonschema."""

import json
import pathlib
import sys
import unittest

import jsonschema
import yaml

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "ci/scripts")]

import check_openapi  # noqa: E402
import sse  # noqa: E402

GOOD = {
    "orchestratord": ["{state_dir: s, managers: [{endpoint: 'unix:/run/pm.sock'}]}",
                      "{state_dir: s, managers: [{endpoint: 'h:1'}], http: {listen: '[::1]:0'}, queue: {capacity: 1}}"],
    "pool-managerd": ["{state_dir: s, pools: [{id: a, engine: native, model: {name: m, path: f}, device: 'vulkan:1'}]}"],
}
BAD = {
    "orchestratord": ["{}", "{state_dir: s}", "{state_dir: s, managers: []}", "{state_dir: 5, managers: [{endpoint: 'h:1'}]}",
                      "{state_dir: s, managers: [{endpoint: 'h:0'}]}", "{state_dir: s, managers: [{endpoint: 'h:1'}], x: 1}",
                      "{state_dir: s, managers: [{endpoint: 'h:1'}], queue: {capacity: 0}}",
                      "{state_dir: s, managers: [{endpoint: 'h:1'}], queue: {capacity: '5'}}",
                      "{state_dir: s, managers: [{endpoint: 'h:1'}], log: {level: loud}}"],
    "pool-managerd": ["{state_dir: s, pools: []}", "{state_dir: s, pools: [{id: 'a b', engine: mock, model: {name: m}}]}",
                      "{state_dir: s, pools: [{id: a, engine: mock, model: {name: m, digest: 'sha256:1'}}]}",
                      "{state_dir: s, pools: [{id: a, engine: gpu, model: {name: m}}]}"],
}


class Schemas(unittest.TestCase):
    def test_OC_CONFIG_6010_schemas_judge_as_the_parsers_do(self):
        for process in GOOD:
            schema = json.loads((ROOT / f"contracts/config-schema/{process}.schema.json").read_text(encoding="utf-8"))
            jsonschema.Draft7Validator.check_schema(schema)
            validator = jsonschema.Draft7Validator(schema)
            for text in GOOD[process]:
                with self.subTest(process=process, text=text):
                    self.assertTrue(validator.is_valid(yaml.safe_load(text)))
            for text in BAD[process]:
                with self.subTest(process=process, text=text):
                    self.assertFalse(validator.is_valid(yaml.safe_load(text)))

    def test_OC_CTRL_2022_snapshots_fit_the_contract(self):
        documents = check_openapi.Documents(ROOT / "contracts/openapi")
        data = documents.by_name["data.yaml"]
        named = data["paths"]["/v1/tasks/{id}/stream"]["get"]["x-sse-events"]
        events, broken = sse.parse((HERE / "snapshots/stream.sse").read_bytes().replace(b'"<ms>"', b"1").replace(b'"<ids>"', b"[1]"))
        self.assertEqual(broken + sse.task_stream_violations(events), [])
        for event in events:
            schema = data["components"]["schemas"][named[event.name]]
            self.assertEqual(check_openapi.violations(documents, schema, "data.yaml", event.json()), [])
        admission = json.loads((HERE / "snapshots/admission.json").read_text(encoding="utf-8").replace('"<ms>"', "1"))
        schema = data["components"]["schemas"]["AdmissionResponse"]
        self.assertEqual(check_openapi.violations(documents, schema, "data.yaml", admission["body"]), [])


if __name__ == "__main__":
    unittest.main()
