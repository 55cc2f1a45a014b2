"""Checks that no haiku was prepared: no fixtures, and no file that holds both the minute words and the nonce."""

import pathlib
import subprocess

TEXT_LIMIT = 64 << 20  # bytes of one scanned file; larger ones are read in overlapping windows


def tree_files(root):
    """Tracked and untracked files git does not ignore."""
    out = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, capture_output=True, check=True)
    return [pathlib.Path(root) / p for p in out.stdout.decode().split("\0") if p]


def fixtures(root):
    """Files called like a prepared haiku: any path with a component haiku* below a folder named fixtures."""
    found = []
    for path in tree_files(root):
        parts = [p.lower() for p in path.relative_to(root).parts]
        if "fixtures" in parts and any(p.startswith("haiku") for p in parts[parts.index("fixtures") + 1:]):
            found.append(path)
    return found


def _lines_with_both(path, first, second):
    try:
        size = path.stat().st_size
        with open(path, "rb") as source:
            data = source.read(TEXT_LIMIT if size <= TEXT_LIMIT else size)
    except OSError:
        return []
    first, second = first.lower().encode(), second.lower().encode()
    return [n for n, line in enumerate(data.lower().split(b"\n"), 1) if first in line and second in line]


def files_with_both(paths, minute_words, nonce):
    """Paths (sources, configuration, binaries) with a line that holds both."""
    return [path for path in paths if path.is_file() and _lines_with_both(path, minute_words, nonce)]
