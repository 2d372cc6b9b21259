#!/bin/sh
# Stands in for pfctl(8) in tests: records its arguments and its input beside itself, and answers what the test has
# written down: a file named after the arguments, or else `stdout`, `stderr` and `status`. A test reaches it through
# a symbolic link in a folder of its own.
set -u
cd "${0%/*}" || exit 70
for word do printf '[%s]' "$word"; done >>calls
echo >>calls
cat >stdin
name=answer$(printf ' %s' "$@" | tr / _)
if [ -e "$name" ]; then
    cat "$name"
    exit 0
fi
[ -e stdout ] && cat stdout
[ -e stderr ] && cat stderr >&2
if [ -e status ]; then exit "$(cat status)"; fi
