#!/usr/bin/env bash
# Installs what fuzzing needs (cargo-fuzz, into target/tools) and fuzzes what strangers send: the targets in fuzz/.
#
#   scripts/fuzz.sh                 every target, some seconds each: 30 in all
#   scripts/fuzz.sh 600 codec       one target, for so many seconds; several may be named
#   scripts/fuzz.sh --install       only install and build
#
# Needs a C++ compiler beside the C compiler, for libFuzzer. It runs on stable Rust, without sanitizers: nothing of this
# project's is unsafe. An input that fails is written to fuzz/artifacts; what is learnt on the way is kept in fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.13.2
all=(codec commands h2_path notification product_body request rows)
tool="$PWD/target/tools/bin/cargo-fuzz"
# As cargo-fuzz builds for, whatever the machine.
host="$(rustc -vV | sed -n 's/^host: //p')"

say() { printf '\n== %s\n' "$*"; }

if [[ "$("$tool" --version 2>/dev/null || true)" != *"$version" ]]; then
    say "installing cargo-fuzz $version"
    CARGO_TARGET_DIR=target/tools/build cargo install --quiet --locked --root target/tools --version "$version" cargo-fuzz
    rm -rf target/tools/build
fi
say "building the fuzz targets"
CARGO_TARGET_DIR=fuzz/target "$tool" fuzz build --sanitizer none
[ "${1:-}" != --install ] || exit 0

seconds="${1:-$((30 / ${#all[@]}))}"
targets=("${@:2}")
[ ${#targets[@]} -gt 0 ] || targets=("${all[@]}")
for target in "${targets[@]}"; do
    say "fuzzing $target for $seconds seconds"
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
    "fuzz/target/$host/release/$target" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 \
        -verbosity=0 -artifact_prefix="fuzz/artifacts/$target/" "fuzz/corpus/$target" "fuzz/seeds/$target"
done
