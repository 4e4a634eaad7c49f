#!/usr/bin/env bash
# Says which servers the tests ran against, each with the number of tests, and what was skipped.
#
#   servers.sh FILE    the file that TIDEGATE_SERVERS_RUN named: a server, a tab, and a test on each line
set -euo pipefail
# Elsewhere names that differ may sort as the same.
export LC_ALL=C

printf '\nrun against:\n'
# A test that starts two servers of a kind, or was run once more, counts once.
sort -u "$1" | cut -f 1 | uniq -c | awk '
  { count = $1; sub(/^ *[0-9]+ /, "") }
  /^SKIPPED/ { skipped = 1 }
  { printf "  %s, in %d %s\n", $0, count, count == 1 ? "test" : "tests" }
  END { if (!skipped) print "  SKIPPED: nothing" }'
