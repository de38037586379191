#!/bin/sh
# fuzz.sh DIR SECONDS SEED NAME... - run fuzz targets, each for so long, on the corpus in the tree.
# SEED 0: another one each time; else two runs try the same inputs, the longer one more of them.
set -eu
dir=$1; seconds=$2; seed=$3; shift 3
for name in "$@"; do
    corpus=tests/fuzz/corpus/$name
    grown=$dir/corpus/$name
    mkdir -p "$grown"
    [ -d "$corpus" ] || corpus=
    log=$dir/$name.log
    if "$dir/$name" -max_total_time="$seconds" -seed="$seed" -rss_limit_mb=2048 \
        -timeout=30 -max_len=65536 -artifact_prefix="$dir/" -print_final_stats=1 "$grown" $corpus >"$log" 2>&1; then
        printf '  ok   %-18s %s executions\n' "$name" \
            "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
    else
        tail -30 "$log"
        echo "fuzz: $name found something; the input is in $dir"
        exit 1
    fi
done
