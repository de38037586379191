#!/bin/sh
# deps.sh GROUP... - install the Debian packages that the groups need. Says nothing and takes no
# time when all are there. Groups: build, test, bench.
set -eu

build="gcc libc6-dev make pkg-config libpq-dev libevent-dev libcurl4-openssl-dev libssl-dev
 libjson-c-dev libyaml-dev libnghttp2-dev libpcre2-dev libc-ares-dev zlib1g-dev libhiredis-dev
 libluajit-5.1-dev libldap-dev postgresql-15 openssl curl ca-certificates"
test="git python3 python3-pytest python3-yaml python3-psycopg2 python3-requests libcmocka-dev slapd
 python3-h2 python3-grpcio clang-format clang libclang-rt-14-dev strace redis-server pgbouncer iproute2 util-linux"
bench="nginx libnginx-mod-stream haproxy h2o nghttp2-proxy nghttp2-client wrk liburing-dev python3"

missing=
for group in "$@"; do
    case $group in
    build) packages=$build ;;
    test) packages=$test ;;
    bench) packages=$bench ;;
    *) echo "deps.sh: no group '$group' (build, test, bench)" >&2; exit 2 ;;
    esac
    for p in $packages; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] ||
            missing="$missing $p"
    done
done
[ -n "$missing" ] || exit 0

echo "installing:$missing"
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo

# A package's service must not start: tests and `make run` start their own, on their own ports.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
    $as_root chmod +x $policy
    trap '$as_root rm -f $policy' EXIT
fi
log=$(mktemp)
if ! { $as_root apt-get update && $as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -20 "$log" >&2
    echo "deps.sh: installing failed; see $log" >&2
    exit 1
fi
rm -f "$log"
