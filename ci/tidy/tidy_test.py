"""The tree keeps the rules of tidy.py, and each rule sees its breach."""

import pathlib
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import tidy  # noqa: E402

BREACHES = [
    ("orchestratord/core/a.cc", "#include <thread>", "<thread> in a core"),
    ("orchestratord/core/a.h", "#include <chrono>", "<chrono> in a core"),
    ("common/base/a.h", "#include <cstdio>", "<cstdio> in a core"),
    ("worker/text/a.h", "#include <iostream>", "<iostream> in a core"),
    ("worker/core/a.cc", "#include <boost/asio.hpp>", "only the standard library"),
    ("worker/core/a.cc", "#include <sys/mman.h>", "only the standard library"),
    ("worker/core/a.cc", "#include <nlohmann/json.hpp>", "only the standard library"),
    ("worker/core/a.cc", '#include "common/runtime/log.h"', "only pure folders"),
    ("worker/core/a.cc", '#include "worker/shell/main.h"', "only pure folders"),
    ("worker/core/a.cc", '#include "gen/orch/v1/worker.pb.h"', "stay in the shell"),
    ("worker/core/a.cc", '#include "gen/config_pool_managerd.h"', "stay in the shell"),
    ("worker/core/a.cc", "auto t = std::chrono::steady_clock::now();", "::now( in a core"),
    ("worker/core/a.cc", 'getenv("HOME");', "getenv in a core"),
    ("worker/core/a.cc", "std::mutex m;", "std::mutex in a core"),
    ("worker/core/a.cc", "grpc::Status s;", "grpc:: in a core"),
    ("worker/shell/a.cc", 'open("/home/me/x");', "a path of one machine"),
    ("README.md", "See /" + "work/main.", "a path of one machine"),
    ("ci/x.sh", "cp a /tmp/out", "a path of one machine"),
    ("worker/shell/a.cc", "x" * 121, "121 columns"),
    ("ci/a.py", "x" * 161, "161 columns"),
    ("ci/CMakeLists.txt", "x" * 161, "161 columns"),
    ("worker/shell/a.h", "class SocketHelper {", "class SocketHelper"),
    ("worker/shell/a.h", "struct Util {", "struct Util"),
    ("worker/shell/a.cc", "// TODO: later", "a to-do without a topic"),
    ("worker/shell/a.cc", "// FIXME", "a to-do without a topic"),
    ("worker/shell/a_test.cc", "std::this_thread::sleep_for(x);", "a test that sleeps"),
    ("data.bin", "x" * ((1 << 20) + 1), "bytes, at most"),
]
ACCEPTED = [
    ("worker/core/a.cc", "#include <vector>"),
    ("worker/core/a.cc", '#include "orchestratord/core/events.h"'),
    ("worker/core/a.cc", '#include "gen/outcome.h"'),
    ("worker/core/a_test.cc", "#include <gtest/gtest.h>"),
    ("adapters/core/a.cc", "#include <nlohmann/json.hpp>"),
    ("worker/core/a.cc", "// std::mutex is not needed: one thread owns this."),
    ("worker/shell/a.cc", "#include <thread>"),
    ("worker/shell/a.cc", "// TODO(tls): see TODO.md"),
    ("worker/shell/a_test.cc", 'char folder[] = "/tmp/orch-XXXXXX";'),
    (".docs/a.md", "x" * 200),
]


def problems(name, text):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
        return tidy.check(folder)[0]


class Tidy(unittest.TestCase):
    def test_OC_TEST_7014_the_tree_is_tidy(self):
        self.assertEqual(tidy.check(HERE.parents[1])[0], [])

    def test_OC_TEST_7014_each_rule_sees_its_breach(self):
        for name, text, expected in BREACHES:
            with self.subTest(name=name, text=text[:60]):
                found = problems(name, text)
                self.assertEqual(len(found), 1, found)
                self.assertIn(expected, found[0])

    def test_what_is_allowed_passes(self):
        for name, text in ACCEPTED:
            with self.subTest(name=name, text=text[:60]):
                self.assertEqual(problems(name, text), [])


if __name__ == "__main__":
    unittest.main()
