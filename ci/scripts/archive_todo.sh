#!/usr/bin/env bash
# Moves a finished TODO.md to .docs/DONE/TODO-<next number>.md and starts an empty one.
# usage: archive_todo.sh [ROOT]; exits 1 without a change when TODO.md is missing or has an open item.
set -euo pipefail
root=${1:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
todo=$root/TODO.md
done_folder=$root/.docs/DONE

[ -f "$todo" ] || { echo "archive_todo: no $todo" >&2; exit 1; }
if grep -nE '^[[:space:]]*[-*] \[ \]' "$todo" >&2; then
  echo "archive_todo: the items above are open; nothing was moved" >&2
  exit 1
fi
grep -qE '^[[:space:]]*[-*] \[[xX]\]' "$todo" || { echo "archive_todo: TODO.md lists no finished item" >&2; exit 1; }

mkdir -p "$done_folder"
last=0
for file in "$done_folder"/TODO-*.md; do
  number=${file##*/TODO-}
  number=${number%.md}
  case $number in '' | *[!0-9]*) continue ;; esac
  [ $((10#$number)) -gt "$last" ] && last=$((10#$number))
done
target=$done_folder/TODO-$((last + 1)).md
mv -n "$todo" "$target"
printf '# TODO\n\nThe active tracker: what is open, in order of execution. Finished ones: `.docs/DONE/`.\n' >"$todo"
echo "archive_todo: $target"
