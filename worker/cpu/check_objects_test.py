"""The check of the CPU backend's objects sees what it is there for (OC-NUM-1103)."""

import pathlib
import platform
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import check_objects  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]


@unittest.skipUnless(platform.machine() == "x86_64", "the instructions are those of x86-64")
class CheckObjects(unittest.TestCase):
    def problems(self, assembly, name="kernels.o"):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/{name}"
            subprocess.run(["as", "-o", path, "-"], input=assembly, text=True, check=True)
            return check_objects.problems_of(path, check_objects.disassembled(path))

    def test_OC_NUM_1103_a_fused_multiply_add_is_seen(self):
        self.assertEqual(self.problems("vmulps %ymm0, %ymm1, %ymm2\nvaddps %ymm0, %ymm2, %ymm2\n"), [])
        for fused in ("vfmadd213ps %ymm0, %ymm1, %ymm2", "vfmadd231ss %xmm0, %xmm1, %xmm2", "vfnmsub132pd %ymm0, %ymm1, %ymm2",
                      "vfmaddsub132ps %ymm0, %ymm1, %ymm2"):
            found = self.problems(fused + "\n")
            self.assertEqual(len(found), 1, fused)
            self.assertIn(fused.split()[0], found[0])

    def test_OC_NUM_1103_instructions_that_do_not_belong_there_are_seen(self):
        wide = self.problems("vaddps %zmm0, %zmm1, %zmm2\n", "matmul_avx2.o")
        self.assertTrue(any("AVX-512 register" in problem for problem in wide), wide)
        self.assertTrue(any("no instruction of avx2" in problem for problem in self.problems("ret\n", "matmul_avx2.o")))
        self.assertTrue(any("weak symbol" in problem for problem in
                            self.problems(".weak shared\nshared: vaddps %ymm0, %ymm1, %ymm2\nret\n", "matmul_avx2.o")))

    def test_OC_NUM_1103_the_whole_tree_is_compiled_without_contraction(self):
        flags = (ROOT / "ci/cmake/orch.cmake").read_text(encoding="utf-8")
        for flag in ("-ffp-contract=off", "-fno-fast-math"):
            self.assertIn(flag, flags)


if __name__ == "__main__":
    unittest.main()
