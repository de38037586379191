#!/bin/sh
# fuzz-short.sh DIR RUNS SECONDS NAME... - fuzz targets over the corpus in the tree and mutations of it.
set -u
dir=$1; runs=$2; seconds=$3; shift 3
passed=0 failed=0
for name in "$@"; do
    if said=$("$dir/$name" "$runs" "$seconds" "tests/fuzz/corpus/$name" 2>"$dir/$name.log"); then
        printf '  ok   %-18s %s\n' "$name" "$said"
        passed=$((passed + 1))
    else
        tail -20 "$dir/$name.log"
        echo "  FAIL $name"
        failed=$((failed + 1))
    fi
done
echo "fuzz: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
