#!/usr/bin/env bash
# Installs what counting instructions needs (Valgrind, and Gungraun's runner into target/tools) and counts those of the
# hot paths. Fails where one takes 5% more than its budget in benches/instructions/budgets.rs.
#
#   scripts/instructions.sh            count and compare
#   scripts/instructions.sh --install  only install
#   scripts/instructions.sh --renew    count, and make the counts the budgets
#
# Does nothing where the budgets say nothing, which is elsewhere than on x86-64 Linux with glibc.
set -euo pipefail
cd "$(dirname "$0")/.."

budgets=benches/instructions/budgets.rs

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'scripts/instructions.sh: %s\n' "$*" >&2; exit 1; }
. scripts/packages.sh

# Valgrind stops without the symbols of the dynamic linker, which are in libc6-dbg.
install_valgrind() { command -v valgrind >/dev/null || install_packages valgrind libc6-dbg; }

# The runner and the library must have the same version.
install_runner() {
    local wanted installed
    wanted="$(sed -n '/^name = "gungraun"$/{n;s/version = "\(.*\)"/\1/p}' Cargo.lock)"
    installed="$("$GUNGRAUN_RUNNER" --version 2>/dev/null || true)"
    [[ "$installed" == *"$wanted" ]] && return 0
    say "installing gungraun-runner $wanted"
    CARGO_TARGET_DIR=target/tools/build cargo install --quiet --locked --root target/tools --version "$wanted" gungraun-runner
    rm -rf target/tools/build
}

# The counts as "name count", one a line.
counts() {
    sed -E 's/\x1b\[[0-9;]*m//g' | awk '
        match($0, /::[a-z_]+ once:/) { name = substr($0, RSTART + 2, RLENGTH - 8) }
        $1 == "Instructions:" { split($2, numbers, "|"); print name, numbers[1] }'
}

renew() {
    local name count digits
    while read -r name count; do
        digits="$(printf '%s' "$count" | sed -E ':a;s/([0-9])([0-9]{3})($|_)/\1_\2\3/;ta')"
        sed -i -E "s/(const ${name^^}: u64 = )[0-9_]+;/\1$digits;/" "$budgets"
        printf '%-28s %s\n' "$name" "$digits"
    done
}

if [ "$(uname -sm)" != "Linux x86_64" ] || ldd --version 2>&1 | grep -qi musl; then
    say "instructions are not counted: their budgets are those of x86-64 Linux with glibc"
    exit 0
fi
export GUNGRAUN_RUNNER="$PWD/target/tools/bin/gungraun-runner"
install_valgrind
install_runner
[ "${1:-}" != --install ] || exit 0
if [ "${1:-}" = --renew ]; then
    # Failing its budget is what a renewed count does.
    { cargo bench --locked --quiet --bench instructions 2>/dev/null || true; } | counts | renew
else
    cargo bench --locked --quiet --bench instructions
fi
