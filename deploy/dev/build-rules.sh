#!/usr/bin/env bash
# Builds rules to WebAssembly: target/rules/<name>.wasm, written only when it changed.
#
#   build-rules.sh                 every rule under rules/
#   build-rules.sh threshold …     these
#   build-rules.sh examples/x …    the rule crate in that directory, in the workspace or not
#
# They are core modules for wasm32-unknown-unknown; the host makes components of them. What stands in a
# rule's testcases/ goes along in its module, and the host runs it before the module serves. Run
# setup.sh first; this calls it when nobody has.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=wasm32-unknown-unknown
build="$root/target/wasm"
# Rules that only tests use go elsewhere: what stands in target/rules is bundled with the binary.
modules="${TIDEGATE_MODULES:-$root/target/rules}"

die() {
  printf 'build-rules: %s\n' "$@" >&2
  exit 1
}

[ -n "${TIDEGATE_WASM:-}" ] || [ -f "$root/target/dev/wasm-toolchain" ] || "$root/deploy/dev/setup.sh" wasm
way=${TIDEGATE_WASM:-$(cat "$root/target/dev/wasm-toolchain")}

# Rules outside the workspace get the profile of the workspace's rules.
profile=(
  --config 'profile.rule.inherits="release"'
  --config 'profile.rule.opt-level=3'
  --config 'profile.rule.lto="fat"'
  --config 'profile.rule.codegen-units=1'
  --config 'profile.rule.panic="abort"'
  --config 'profile.rule.strip="debuginfo"'
)

# Debian has no rust-lld; its LLVM's linker is the same program by its own name.
debian_linker() { compgen -G "/usr/lib/llvm-*/bin/wasm-ld" | sort -V | tail -n 1; }

run_cargo() {
  case "$way" in
    rustup) cargo build "$@" ;;
    # rustup's programs come first on PATH, so Debian's are named in full; its standard library is
    # built along, which only an unlocked compiler may do.
    debian)
      RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc \
        CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$(debian_linker) \
        /usr/bin/cargo build -Z build-std=std,panic_abort "$@"
      ;;
    *) die "unknown toolchain '$way'; delete target/dev and run deploy/dev/setup.sh wasm" ;;
  esac
}

package_of() { sed -n 's/^name *= *"\(.*\)".*/\1/p;/^\[lib\]/q' "$1/Cargo.toml" | head -n 1; }

# The program that puts test cases into modules; it runs here, so it is built by whatever cargo there is.
embed_cases() {
  if [ -z "${embedder_is_new:-}" ]; then
    (cd "$root" && cargo build --quiet --package tidegate-cases --bin embed-cases --target-dir "$build") || return
    embedder_is_new=yes
  fi
  "$build/debug/embed-cases" "$1" "$2"
}

# Puts a crate's module in its place, with its test cases, whole or not at all, and only when it is another.
place() {
  local package name built new
  package=$(package_of "$1")
  name=${package#rule-}
  built="$build/$target/rule/${package//-/_}.wasm"
  new="$modules/.$name.wasm.$$"
  [ -f "$built" ] || die "$package made no module; its Cargo.toml needs [lib] crate-type = [\"cdylib\", \"rlib\"]"
  cp "$built" "$new"
  if [ -d "$1/testcases" ]; then
    embed_cases "$new" "$1/testcases" || {
      rm -f "$new"
      die "the test cases of $package cannot be put into its module"
    }
  fi
  if cmp -s "$new" "$modules/$name.wasm"; then
    rm -f "$new"
  else
    mv -f "$new" "$modules/$name.wasm"
    printf 'build-rules: %s (%s bytes)\n' "${modules#"$root"/}/$name.wasm" "$(stat -c %s "$modules/$name.wasm")"
  fi
}

mkdir -p "$modules"
if [ "$#" -eq 0 ]; then
  set -- "$root"/rules/*/*/
fi

inside=()
outside=()
for wanted in "$@"; do
  found=()
  for directory in "$wanted" "$root"/rules/*/"$wanted"; do
    [ -f "$directory/Cargo.toml" ] && found+=("$(cd "$directory" && pwd)")
  done
  [ "${#found[@]}" -gt 0 ] || die "'$wanted' is neither a rule under rules/ nor a directory with a Cargo.toml"
  case "${found[0]}" in
    "$root"/rules/*) inside+=("${found[0]}") ;;
    *) outside+=("${found[0]}") ;;
  esac
done

if [ "${#inside[@]}" -gt 0 ]; then
  packages=()
  for directory in "${inside[@]}"; do packages+=("--package=$(package_of "$directory")"); done
  (cd "$root" && run_cargo --quiet --profile rule --target "$target" --target-dir "$build" "${packages[@]}")
fi
for directory in ${outside[@]+"${outside[@]}"}; do
  (cd "$directory" && run_cargo --quiet "${profile[@]}" --profile rule --target "$target" --target-dir "$build")
done
for directory in ${inside[@]+"${inside[@]}"} ${outside[@]+"${outside[@]}"}; do place "$directory"; done
