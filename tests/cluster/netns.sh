#!/bin/sh
# netns.sh COMMAND... - run a command in a network namespace of its own that has nothing but a loopback
# interface, with an address beside 127.0.0.1: Kubernetes takes no loopback address for an endpoint, and
# what the tests send must not leave the machine.
set -eu
address=10.98.0.1
setup="ip link set lo up && ip address add $address/32 dev lo && ip route add default dev lo src $address"
uid=$(id -u) gid=$(id -g)

if [ "$uid" = 0 ]; then
    exec unshare --net sh -c "$setup"' && exec "$@"' sh "$@"
fi
exec unshare --map-root-user --net sh -c "$setup"' && uid=$1 gid=$2 && shift 2 &&
    exec unshare --user --map-user="$uid" --map-group="$gid" -- "$@"' sh "$uid" "$gid" "$@"
