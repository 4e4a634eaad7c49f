#!/usr/bin/env bash
# Runs the tests, unit tests and doc tests included, against real servers; ends with which servers those were, what was skipped,
# and `N passed, N failed`.
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
again="$root/target/test-again.log"
# Each test adds the servers it uses.
servers="$root/target/servers-run"
: >"$servers"
status=0
tests() {
  TIDEGATE_REQUIRE_SERVERS=1 TIDEGATE_SERVERS_RUN="$servers" TIDEGATE_VECTORS=${TIDEGATE_VECTORS:-$root/../shared/vectors} \
    cargo test --no-fail-fast --color never "$@" 2>&1
}
tests "$@" | tee "$log" || status=$?

# What a test or a document's script waited for in vain (`waited 180s for …`) may only have come too late, on a machine that others keep busy. Such tests
# are run once more, one at a time, and named. Any other failure stands, also beside a wait: a message lost or a wrong answer is not a matter of time.
mended=()
for name in $(deploy/dev/waited.sh "$log"); do
  printf '\n%s waited too long: once more, alone\n' "$name"
  if tests "$@" --tests -- --exact "$name" | tee "$again" && grep -q '^test result: ok\. 1 passed' "$again"; then
    mended+=("$name")
  fi
done
[ "${#mended[@]}" -eq 0 ] || printf '\npassed only when run once more, alone: %s\n' "${mended[*]}"

deploy/dev/servers.sh "$servers"

# A test binary that died without a word about it, or did not compile, counts as one that failed.
awk -v status="$status" -v mended="${#mended[@]}" -v died=0 '
  /^test result: / { passed += $4; failed += $6 }
  /^test result: FAILED/ { died -= 1 }
  /^error: (doc)?test failed/ { died += 1 }
  END {
    if (status != 0 && failed == 0) failed = 1
    else { passed += mended; failed += died - mended }
    printf "%d passed, %d failed\n", passed, failed
    exit failed > 0
  }' "$log"
