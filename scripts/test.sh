#!/bin/bash
# test.sh - every ring of tests, one after the other, the cluster's programs being built meanwhile.
# Goes on after a failure, says at the end what failed, and leaves the sum in build/tally.
set -u
cd "$(dirname "$0")/.."
export BUILD=${BUILD:-build}
mkdir -p "$BUILD"
passed=0 failed=0 broken=

nice -n 5 tests/cluster/build.sh >"$BUILD/cluster-build.log" 2>&1 &
cluster_build=$!

ring() { # NAME COMMAND... - run it, count what its last lines say
    local name=$1 log; shift
    log=$BUILD/test-$name.log
    echo "== $name"
    "$@" 2>&1 | tee "$log"
    local code=${PIPESTATUS[0]} p f
    p=$(grep -oE '[0-9]+ passed' "$log" | tail -1 | grep -oE '[0-9]+')
    f=$(grep -oE '[0-9]+ (failed|error)' "$log" | tail -1 | grep -oE '[0-9]+')
    [ "$code" -eq 0 ] || { broken="$broken $name"; [ "${f:-0}" -gt 0 ] || f=1; }
    passed=$((passed + ${p:-0})); failed=$((failed + ${f:-0}))
}

ring unit make --no-print-directory unit
ring system make --no-print-directory system
ring conformance make --no-print-directory conformance
wait $cluster_build || { tail -20 "$BUILD/cluster-build.log"; echo "cluster: the build failed"; }
ring cluster make --no-print-directory cluster

echo "$passed $failed" >"$BUILD/tally"
[ -z "$broken" ] || echo "failed:$broken"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
