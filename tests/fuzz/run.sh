#!/usr/bin/env bash
# Fuzzes every target for so many seconds: driven by libFuzzer where there is a C++ compiler to build it with, by changes at random where not.
#
#   run.sh [SECONDS]          TIDEGATE_FUZZ=plain  asks for the latter
#
# What libFuzzer learns stays in target/fuzz, and it begins with that and the stored corpus; what it finds is written there too, and becomes a
# file in tests/fuzz/corpus by hand.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
seconds=${1:-60}
cd "$root"

if [ "${TIDEGATE_FUZZ:-}" = plain ] || ! command -v c++ >/dev/null; then
  TIDEGATE_FUZZ_SECONDS=$seconds cargo test --workspace --test short -- --nocapture
  exit
fi

targets=()
for file in tests/fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
RUSTC_WORKSPACE_WRAPPER="$root/tests/fuzz/coverage.sh" \
  cargo build --workspace --features tidegate-fuzz/libfuzzer "${targets[@]/#/--bin=fuzz-}"
for target in "${targets[@]}"; do
  learnt="target/fuzz/$target"
  mkdir -p "$learnt"
  printf 'fuzz: %s, %s s\n' "$target" "$seconds"
  if ! "target/debug/fuzz-$target" -max_total_time="$seconds" -max_len=16384 -print_final_stats=1 \
    -artifact_prefix="target/fuzz/$target-" "$learnt" "tests/fuzz/corpus/$target" >"target/fuzz/$target.log" 2>&1; then
    tail -n 40 "target/fuzz/$target.log"
    exit 1
  fi
  grep -E '^stat::number_of_executed_units|^#[0-9]+.*DONE' "target/fuzz/$target.log"
done
