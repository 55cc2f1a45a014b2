"""Which sources the linter has already found good, kept between runs and clones in the user's cache folder.

A source's key is the hash of all that the linter reads: the linter's version, its settings, and the source with its headers and
comments as the preprocessor gives them, without the path of the clone. Only good results are kept, as empty files named by
their key; what nobody asked for in KEPT_SECONDS goes. ccache keeps objects by the same reasoning.
"""

import hashlib
import os
import pathlib
import shlex
import subprocess
import time

KEPT_SECONDS = 30 * 24 * 3600


def default_folder():
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "llama-orch/lint"


class LintResults:
    """`root` is the clone, `identity` what every result depends on (version and settings as bytes). Used from several threads at once."""

    def __init__(self, folder, root, identity):
        self.folder, self.root, self.identity = pathlib.Path(folder), str(root), identity

    def key(self, entries):
        """Of all entries of compile_commands.json for one source; None when the preprocessor fails, for then the linter says why."""
        parts = [self._read(entry) for entry in entries]
        return None if None in parts else hashlib.sha256(b"\0".join([self.identity, *parts])).hexdigest()

    def _read(self, entry):
        command = shlex.split(entry["command"])
        out = command.index("-o")
        command[out:out + 2] = []
        command[command.index("-c")] = "-E"
        done = subprocess.run([*command, "-C"], cwd=entry["directory"], capture_output=True, check=False)
        if done.returncode != 0:
            return None
        return b"\0".join(["\0".join(command).encode(), done.stdout]).replace(self.root.encode(), b".")

    def good(self, key):
        """Whether it was found good; a result that is asked for stays."""
        if key is None:
            return False
        try:
            os.utime(self.folder / key)
        except FileNotFoundError:
            return False
        return True

    def remember(self, key):
        if key is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / key).touch()

    def forget_old(self, now=None):
        limit = (now or time.time()) - KEPT_SECONDS
        for kept in self.folder.glob("*"):
            if kept.stat().st_mtime < limit:
                kept.unlink(missing_ok=True)
