#!/usr/bin/env bash
# Runs the tests, unit tests and doc tests included, against real servers; ends with `N passed, N failed`.
#
#   test.sh                        all of the workspace
#   test.sh -p tidegate-sources    arguments are those of `cargo test`
#
# A test that needs a server fails here when the server is missing; under plain `cargo test` it is skipped, loudly.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"

deploy/dev/setup.sh test
deploy/dev/build-rules.sh
# Not in target/rules: what stands there is what `tidegate demo` brings along.
TIDEGATE_MODULES="$root/target/guests" deploy/dev/build-rules.sh tests/guests/*/
# The same features as the tests below: with --package everything would be compiled once more.
cargo build --workspace --bins

[ "$#" -gt 0 ] || set -- --workspace
log="$root/target/test.log"
status=0
TIDEGATE_REQUIRE_SERVERS=1 TIDEGATE_VECTORS=${TIDEGATE_VECTORS:-$root/../shared/vectors} \
  cargo test --no-fail-fast --color never "$@" 2>&1 | tee "$log" || status=$?

# A test binary that died without a word about it, or did not compile, counts as one that failed.
awk -v status="$status" '
  /^test result: / { passed += $4; failed += $6 }
  END {
    if (status != 0 && failed == 0) failed = 1
    printf "%d passed, %d failed\n", passed, failed
    exit failed > 0
  }' "$log"
