"""What the command line of the simulator promises: usage sim_replay_test.py PATH-OF-SIM."""

import re
import subprocess
import sys
import unittest

SIM = sys.argv.pop(1) if len(sys.argv) > 1 else "sim"
SEEDS = 40


def sim(*arguments):
    done = subprocess.run([SIM, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


class Replay(unittest.TestCase):
    def digest(self, *arguments):
        code, text = sim(*arguments)
        self.assertEqual(code, 0, text[-2000:])
        return re.search(r"digest ([0-9a-f]{16})", text).group(1)

    def test_OC_SIM_1001_the_same_seeds_give_the_same_run_and_others_another(self):
        first = self.digest("--seed=1", f"--seeds={SEEDS}", "--threads=2")
        self.assertEqual(self.digest("--seed=1", f"--seeds={SEEDS}", "--threads=1"), first)
        self.assertNotEqual(self.digest("--seed=2", f"--seeds={SEEDS}", "--threads=2"), first)

    def test_OC_SIM_1003_1004_a_violation_is_a_failure_and_printed_as_the_command_that_replays_it(self):
        """With a fault built in; the first of them that breaks a rule within some seeds."""
        for mutation in range(1, 12):
            code, text = sim("--seed=1", "--seeds=200", "--threads=2", f"--mutation={mutation}")
            found = re.search(r"^VIOLATION in seed (\d+): (.*)\nreplay: sim (.*)$", text, re.MULTILINE)
            if not found:
                continue  # not seen so soon, or a check of the core stopped it
            self.assertEqual(code, 1)
            self.assertIn(f"--seed={found.group(1)}", found.group(3).split())
            again, replayed = sim(*found.group(3).split())
            self.assertEqual(again, 1)
            self.assertIn(f"VIOLATION in seed {found.group(1)}: {found.group(2)}", replayed)
            return
        self.fail("no built-in fault was seen")


if __name__ == "__main__":
    unittest.main()
