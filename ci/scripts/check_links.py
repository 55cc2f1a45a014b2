#!/usr/bin/env python3
"""Checks every link between the tree's Markdown files, dot folders included. usage: check_links.py [ROOT]

A relative link must lead to a file or folder of the tree, a #fragment to a heading of its file, a reference to a
definition. Links outside the tree must be well-formed http(s); they are not fetched. Exits 1 with path:line of each bad one.
"""

import pathlib
import re
import subprocess
import sys
import urllib.parse

FENCE = re.compile(r"^\s*(```|~~~)")
CODE_SPAN = re.compile(r"(`+)(?:.*?)\1")
INLINE = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
REFERENCE = re.compile(r"!?\[([^\]]+)\]\[([^\]]*)\]")
DEFINITION = re.compile(r"^\s{0,3}\[([^\]]+)\]:\s*<?(\S+?)>?(?:\s|$)")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$")
ANCHOR = re.compile(r"<a\s+(?:id|name)=\"([^\"]+)\"")


def text_lines(path):
    """(number, line) outside code blocks, code spans blanked."""
    fenced = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            yield number, line


def slug(heading):
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(path, cache):
    if path not in cache:
        found, counts = set(), {}
        for _, line in text_lines(path):
            found.update(ANCHOR.findall(line))
            match = HEADING.match(line)
            if match:
                name = slug(match.group(1))
                found.add(f"{name}-{counts[name]}" if name in counts else name)
                counts[name] = counts.get(name, 0) + 1
        cache[path] = found
    return cache[path]


def links(path):
    lines = [(number, CODE_SPAN.sub("``", line)) for number, line in text_lines(path)]
    defined = {match.group(1).lower(): match.group(2) for _, line in lines if (match := DEFINITION.match(line))}
    for number, line in lines:
        for target in INLINE.findall(line):
            yield number, target
        if match := DEFINITION.match(line):
            yield number, match.group(2)
        for text, reference in REFERENCE.findall(line):
            if (reference or text).lower() not in defined:
                yield number, None, reference or text


def problem_of(root, path, target, cache):
    parts = urllib.parse.urlsplit(target)
    if parts.scheme or target.startswith("//"):
        return None if parts.scheme in ("http", "https", "mailto") and (parts.netloc or parts.path) else "is no http(s) link"
    if target.startswith("/"):
        return "is absolute"
    file = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
    if not file.is_relative_to(root):
        return "leaves the tree"
    if not file.exists():
        return "leads nowhere"
    if parts.fragment and file.suffix == ".md" and parts.fragment not in anchors(file, cache):
        return f"names no heading of {file.name}"
    return None


def markdown_files(root):
    out = subprocess.run(["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.md"],
                         capture_output=True, check=False)
    names = out.stdout.decode("utf-8").split("\0") if out.returncode == 0 else [str(p.relative_to(root)) for p in root.rglob("*.md")]
    return sorted({root / name for name in names if name and (root / name).is_file()})


def check(root):
    root = pathlib.Path(root).resolve()
    cache, problems, count = {}, [], 0
    for path in markdown_files(root):
        for number, target, *undefined in links(path):
            count += 1
            what = f"[{undefined[0]}] is not defined" if undefined else problem_of(root, path, target, cache)
            if what:
                problems.append(f"{path.relative_to(root)}:{number}: {'' if undefined else target + ' '}{what}")
    return problems, count


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2]
    problems, count = check(root)
    print("\n".join(problems + [f"check_links: {count} links, {len(problems)} bad"]))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
