#!/bin/sh
# run-units.sh DIR NAME... - run unit test programs; their output only when one fails.
dir=$1; shift
passed=0; failed=0
for name in "$@"; do
    out=$("$dir/test_$name" 2>&1); code=$?
    n=$(printf '%s\n' "$out" | grep -c '^\[       OK \]')
    bad=$(printf '%s\n' "$out" | grep -c '^\[  FAILED  \] .*' )
    passed=$((passed + n))
    if [ $code -ne 0 ]; then
        printf '%s\n' "$out"
        failed=$((failed + (bad > 0 ? bad : 1)))
    else
        printf '  ok   %-16s %3d tests\n' "$name" "$n"
    fi
done
echo "unit: $passed passed, $failed failed"
[ $failed -eq 0 ]
