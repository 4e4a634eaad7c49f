#!/bin/sh
# A compiler for cargo (RUSTC_WORKSPACE_WRAPPER) that has our own crates, and no others, count for libFuzzer which code they reach: the
# passes are those of every LLVM, so this is no matter of nightly.
exec "$@" -Ccodegen-units=1 -Cpasses=sancov-module \
  -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
