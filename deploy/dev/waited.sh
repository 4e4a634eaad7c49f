#!/usr/bin/env bash
# Names the tests that failed because they waited in vain (`waited 180s for …`), and for nothing else.
#
#   waited.sh LOG    what `cargo test` said
#
# A test may fail more than once: in its threads, and where it ends. One failure that is no wait, a message lost or a wrong answer, is not undone by
# others that are. That a thread has failed, as who joins it says, is neither: the thread has said why.
set -euo pipefail

awk '
  function failed() {
    if (failing && waited) waits += 1
    else if (failing && !echoed) others += 1
    failing = 0
  }
  function judge() {
    failed()
    if (name && waits && !others) print name
    name = ""
  }
  /^---- .* stdout ----$/ { judge(); name = $2; waits = others = 0; next }
  /^failures:$/ { judge() }
  / panicked at / { failed(); failing = 1; waited = echoed = 0 }
  failing && /waited [0-9.]+m?s for / { waited = 1 }
  failing && (/ on an `Err` value: Any / || /^a scoped thread panicked$/) { echoed = 1 }
  END { judge() }' "$1"
