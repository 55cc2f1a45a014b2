"""Tests of lint_results.py: a result holds for exactly what the linter read."""

import os
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from lint_results import KEPT_SECONDS, LintResults  # noqa: E402


class Clone:
    """A source and its header in a folder of its own."""

    def __init__(self, folder):
        self.root = pathlib.Path(folder)
        self.root.mkdir()
        self.write("a.h", "int f();\n")
        self.write("a.cc", '#include "a.h"\nint f() { return 1; }\n')

    def write(self, name, text):
        (self.root / name).write_text(text)

    def entries(self, *flags):
        return [{"directory": str(self.root), "file": str(self.root / "a.cc"),
                 "command": f"clang++-19 {flag} -I{self.root} -o a.o -c {self.root}/a.cc"} for flag in flags or [""]]


class LintResultsTest(unittest.TestCase):
    def setUp(self):
        held = tempfile.TemporaryDirectory()
        self.addCleanup(held.cleanup)
        self.folder = pathlib.Path(held.name)
        self.clone = Clone(self.folder / "clone")
        self.results = self.of(self.clone)

    def of(self, clone, identity=b"tidy 19"):
        return LintResults(self.folder / "kept", clone.root, identity)

    def test_a_good_source_is_known_until_anything_it_reads_changes(self):
        first = self.results.key(self.clone.entries())
        self.assertFalse(self.results.good(first))
        self.results.remember(first)
        self.assertTrue(self.results.good(self.results.key(self.clone.entries())))
        self.assertFalse(self.results.good(self.results.key(self.clone.entries("-DX"))), "other flags")
        self.assertFalse(self.results.good(self.results.key(self.clone.entries("", "-DX"))), "compiled once more")
        self.assertFalse(self.results.good(self.of(self.clone, b"tidy 20").key(self.clone.entries())), "another linter")
        self.clone.write("a.h", "int f();  // NOLINT\n")
        self.assertFalse(self.results.good(self.results.key(self.clone.entries())), "a comment of a header")

    def test_another_clone_of_the_same_text_is_known(self):
        self.results.remember(self.results.key(self.clone.entries()))
        other = Clone(self.folder / "elsewhere")
        self.assertTrue(self.of(other).good(self.of(other).key(other.entries())))

    def test_what_the_preprocessor_refuses_is_never_known(self):
        self.clone.write("a.cc", '#include "none.h"\n')
        key = self.results.key(self.clone.entries())
        self.assertIsNone(key)
        self.results.remember(key)
        self.assertFalse(self.results.good(key))

    def test_what_nobody_asks_for_goes(self):
        key = self.results.key(self.clone.entries())
        self.results.remember(key)
        old = self.folder / "kept/old"
        old.touch()
        os.utime(old, (0, 0))
        self.results.forget_old()
        self.assertFalse(old.exists())
        self.assertTrue(self.results.good(key))
        self.results.forget_old(now=(self.folder / "kept" / key).stat().st_mtime + KEPT_SECONDS + 1)
        self.assertFalse(self.results.good(key))


if __name__ == "__main__":
    unittest.main()
