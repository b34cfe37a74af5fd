#!/usr/bin/env bash
# Builds the fuzz targets and runs each for a while; exit code 1 when one found something.
#
#   fuzz/run.sh [SECONDS [TARGET...]]      60 seconds, and all targets, unless given
#
# cargo-fuzz is the one on PATH. It asks for a nightly toolchain only because coverage is not
# stable; RUSTC_BOOTSTRAP lets the stable one have it. There is no sanitizer: it takes a nightly
# standard library, and there is no unsafe code of ours to watch.
#
# What is found new goes to fuzz/target/corpus, so that the corpus in git stays small;
# `fuzz/run.sh keep` takes the least of it that covers the same, and says what it has added.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export RUSTC_BOOTSTRAP=1

keep=
if [ "${1:-}" = keep ]; then keep=1; shift; seconds=0; else seconds=${1:-60}; shift || true; fi
if [ $# -gt 0 ]; then targets=("$@"); else mapfile -t targets < <(sed -n '/^\[\[bin\]\]/{n;s/^name = "\(.*\)"$/\1/p}' fuzz/Cargo.toml); fi
built=fuzz/target/$(rustc -vV | sed -n 's/^host: //p')/release

if [ ${#targets[@]} -eq 1 ]; then only=("${targets[0]}"); else only=(); fi
cargo fuzz build --sanitizer none --strip-dead-code true "${only[@]}"

found=0
for target in "${targets[@]}"; do
    new=fuzz/target/corpus/$target
    mkdir -p "$new" "fuzz/artifacts/$target"
    if [ -n "$keep" ]; then
        "$built/$target" -merge=1 "fuzz/corpus/$target" "$new" 2>&1 | tail -n 1
        continue
    fi
    log=fuzz/target/$target.log
    if "$built/$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=4096 \
        -dict=fuzz/words.dict -artifact_prefix="fuzz/artifacts/$target/" -print_final_stats=1 \
        "$new" "fuzz/corpus/$target" >"$log" 2>&1; then
        echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions, $(grep -oE 'cov: [0-9]+ ft: [0-9]+' "$log" | tail -n 1)"
    else
        found=1
        echo "$target: FOUND SOMETHING, see $log and fuzz/artifacts/$target"
        grep -E 'panicked at|SUMMARY|ERROR|Test unit written' -A 2 "$log" | tail -n 12
    fi
done
exit "$found"
