#!/usr/bin/env bash
# Makes the Debian package of the binary that is built, installs it into a bare system, starts it as its unit would, and
# changes, upgrades and removes it as an administrator does. As root, but for --install.
#
#   tests/package/run.sh             everything; ROWCAST_BIN is the binary (target/debug/rowcast unless set)
#   tests/package/run.sh --root DIR  only make a system in DIR that has the package
#   tests/package/run.sh --install   only install what it needs, the bare system (target/package/base) included
#
# The bare system is one of this system's release. Nothing boots in it: what only systemd can do (the sandbox of the
# unit) is read by `systemd-analyze verify`, and not tried.
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'tests/package/run.sh: %s\n' "$*" >&2; exit 1; }
. scripts/packages.sh

base=target/package/base cargo_deb_version=3.8.0

install_cargo_deb() {
    [ "$(target/tools/bin/cargo-deb --version 2>/dev/null)" != "cargo-deb $cargo_deb_version" ] || return 0
    say "installing cargo-deb $cargo_deb_version"
    # Unoptimised: it runs for a second.
    CARGO_TARGET_DIR=target/tools/build cargo install --quiet --locked --debug --root target/tools \
        --version "$cargo_deb_version" --no-default-features cargo-deb
    rm -rf target/tools/build
}

# From where this system has its packages, and of its release.
install_base() {
    local as_root=() site release
    [ ! -e "$base/complete" ] || return 0
    command -v debootstrap >/dev/null || install_packages debootstrap
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    read -r site release < <(apt-get indextargets --format '$(SITE) $(CODENAME)' 'Created-By: Packages' | sed -n 1p)
    [ -n "$release" ] || fail "apt-get knows of no packages; run apt-get update"
    say "making a bare system of $release"
    "${as_root[@]}" rm -rf "$base"
    mkdir -p "$base"
    "${as_root[@]}" debootstrap --variant=minbase --include=adduser,libgcc-s1,procps,systemd "$release" "$base/root" "$site" \
        >"$base/log" 2>&1 || { tail -20 "$base/log" >&2; fail "debootstrap failed"; }
    touch "$base/complete"
}

if [ "${1:-}" = --install ]; then
    install_cargo_deb
    install_base
    exit 0
fi
[ "$(id -u)" -eq 0 ] || fail "a package is installed by root; run this with sudo"

scratch="$(mktemp -d "${TMPDIR:-/tmp}/rowcast-package.XXXXXX")"
root="$scratch/root" pid=
cleanup() {
    [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true
    rm -rf "$scratch"
}
trap cleanup EXIT
passed=0
# Passes if the command does.
check() {
    local what=$1
    shift
    "$@" || fail "$what: $*"
    passed=$((passed + 1))
    echo "ok $passed - $what"
}
inside() { chroot "$root" "$@"; }

# cargo-deb takes what is built under the profile of the package, which takes minutes to build.
make_package() {
    mkdir -p "$scratch/target/dist"
    cp "${ROWCAST_BIN:-target/debug/rowcast}" "$scratch/target/dist/rowcast"
    CARGO_TARGET_DIR="$scratch/target" target/tools/bin/cargo-deb --no-build --fast --quiet --output "$scratch/rowcast.deb" >/dev/null
}
install_package() {
    inside dpkg --install /rowcast.deb >"$scratch/dpkg" 2>&1 || { cat "$scratch/dpkg" >&2; return 1; }
}
make_system() {
    cp -a "$base/root" "$root"
    cp "$scratch/rowcast.deb" "$root/"
}
start() {
    tests/package/service.sh "$root" >"$scratch/out" 2>&1 &
    pid=$!
    address=
    until [ -n "$address" ] && curl -fsS "$address/readyz" >/dev/null 2>&1; do
        kill -0 "$pid" 2>/dev/null || { cat "$scratch/out" >&2; fail "the service ended"; }
        address="$(grep -om1 'http://127\.0\.0\.1:[0-9]*' "$scratch/out" || true)"
        sleep 0.1
    done
}
stop() {
    kill -TERM "$pid"
    wait "$pid"
    pid=
}

if [ "${1:-}" = --root ]; then
    root="$2/root"
    make_package
    make_system
    install_package
    exit 0
fi

say "the package"
make_package
# Whose type and mode are these, and what its name is.
contents() { dpkg-deb --contents "$scratch/rowcast.deb" | awk '$6 !~ /\/$|\/doc\// { print $1, $6 }' | LC_ALL=C sort -k 2; }
check "the package has the program, its unit, its settings, manual pages and completions" \
    diff <(contents) tests/package/contents

say "installing it"
make_system
check "it installs on a bare system" install_package
check "systemd finds nothing wrong with the unit" inside systemd-analyze --man=no verify /usr/lib/systemd/system/rowcast.service
check "the unit is enabled" test -L "$root/etc/systemd/system/multi-user.target.wants/rowcast.service"
check "the settings are for root alone" test "$(stat -c %a:%U "$root/etc/default/rowcast")" = 640:root
check "bash can read the completions" inside bash -n /usr/share/bash-completion/completions/rowcast
check "the program has the package's version" test \
    "$(inside rowcast --version)" = "rowcast $(dpkg-deb -f "$scratch/rowcast.deb" Version | sed 's/-.*//')"

say "using it"
echo ROWCAST_LISTEN=127.0.0.1:0 >>"$root/etc/default/rowcast"
start
check "a row is written" curl -fsS -o "$scratch/row" -X PUT "$address/products/1" -H 'Content-Type: application/json' \
    -d '{"manufacturer":"Apple","pricePerUnit":"500EUR","unitsAvailable":6,"productName":"MacBook Pro"}'
check "the rows are the user rowcast's" test "$(inside stat -c %U /var/lib/rowcast/products.redb)" = rowcast
check "it stops when it is told to" stop
check "it is installed over itself" install_package
check "the settings that were changed are kept" grep -q '^ROWCAST_LISTEN=127.0.0.1:0$' "$root/etc/default/rowcast"
start
check "the row is there after a restart" curl -fsS -o "$scratch/row" "$address/products/1"
check "it stops again" stop
check "it is purged" inside dpkg --purge rowcast
check "which leaves no settings" test ! -e "$root/etc/default/rowcast"
check "which leaves the rows" test -e "$root/var/lib/rowcast/products.redb"
printf '\n%s passed, 0 failed\n' "$passed"
