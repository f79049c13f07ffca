#!/usr/bin/env bash
# Records where the server spends its time under one kind of load, and draws it: flamegraphs/SCENARIO-COMMIT.svg.
#
#   flamegraphs/record.sh SCENARIO     steady, saturated, sparse, subscribe-storm or postgres
#
# Needs Linux with two processors and a Rust toolchain; installs perf (by apt, where there is apt) and inferno (into
# target/tools). The server has processor 0 to itself, the load the others. SECONDS_RECORDED (10) can be set; for
# `postgres`, ROWCAST_PG_BIN may name the directory of initdb.
set -euo pipefail
set -m # each job is a process group, which is ended whole
cd "$(dirname "$0")/.."

scenario="${1:-}"
seconds="${SECONDS_RECORDED:-10}"
port=18480
url="http://127.0.0.1:$port"
# In memory where there is such a place: what a disk takes is not what is drawn.
work="$(mktemp -d -p "$(if [ -d /dev/shm ]; then echo /dev/shm; else echo "${TMPDIR:-/tmp}"; fi)")"
pids=()

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'flamegraphs/record.sh: %s\n' "$*" >&2; exit 1; }
. scripts/packages.sh

clean_up() {
    local pid
    for pid in "${pids[@]}"; do kill -- "-$pid" 2>/dev/null || true; done
    [ ! -d "$work/postgres" ] || as_postgres "$pg_bin/pg_ctl" -D "$work/postgres" -m immediate -w stop >/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT

# The load of a scenario, as arguments of rowcast-load; it runs longer than what is recorded.
load() {
    local duration=$((seconds + 60))
    case "$scenario" in
        steady) fanout --connections 1000 --ids-per-connection 1 --products 1 --rate 50 --duration "$duration" ;;
        saturated) fanout --connections 1000 --ids-per-connection 1 --products 1 --publishers 64 --duration "$duration" ;;
        sparse) fanout --connections 5000 --ids-per-connection 20 --products 10000 --publishers 64 --duration "$duration" ;;
        postgres) fanout --connections 1000 --ids-per-connection 10 --products 1000 --publishers 64 --duration "$duration" ;;
        subscribe-storm) storm ;;
    esac
}

fanout() { generator fanout --overwrite-products "$@" --pid "$server"; }
# One run subscribes and closes; runs follow each other until the recording is over.
storm() { while generator subscribe --connections 2000 --ids-per-connection 100 --products 100000; do :; done; }
generator() { taskset -c "1-$(($(nproc) - 1))" target/flamegraph/dist/rowcast-load "$1" --url "$url" "${@:2}"; }

install_tools() {
    command -v cargo >/dev/null || fail "install Rust first: https://rustup.rs"
    command -v perf >/dev/null || install_packages linux-perf
    command -v curl >/dev/null || install_packages curl
    if [ ! -x target/tools/bin/inferno-flamegraph ]; then
        say "installing inferno"
        CARGO_TARGET_DIR=target/tools/build cargo install --quiet --locked --root target/tools --version 0.12.8 inferno
        rm -rf target/tools/build
    fi
}

# Frame pointers, which cost little and are walked at once; DWARF would copy 8 KiB of stack at every sample.
build() {
    say "building with frame pointers"
    RUSTFLAGS="-C force-frame-pointers=yes" CARGO_TARGET_DIR=target/flamegraph cargo build --locked --quiet --profile dist -p rowcast -p rowcast-load
}

as_postgres() { if [ "$(id -u)" -eq 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }

start_postgres() {
    pg_bin="${ROWCAST_PG_BIN:-$(dirname "$(compgen -G '/usr/lib/postgresql/*/bin/initdb' | tail -n 1)")}"
    [ -x "$pg_bin/initdb" ] || fail "there is no initdb; install postgresql, or say where it is with ROWCAST_PG_BIN"
    chmod 755 "$work"
    install -d -m 700 "$work/postgres"
    [ "$(id -u)" -ne 0 ] || chown postgres: "$work/postgres"
    as_postgres "$pg_bin/initdb" -D "$work/postgres" --no-sync --auth=trust --username=postgres --encoding=UTF8 >/dev/null
    as_postgres taskset -c "1-$(($(nproc) - 1))" "$pg_bin/pg_ctl" -D "$work/postgres" -w -l "$work/postgres/log" \
        -o "-p $((port + 1)) -c listen_addresses=127.0.0.1 -c unix_socket_directories=$work/postgres" start >/dev/null
    export DATABASE_URL="postgres://postgres@127.0.0.1:$((port + 1))/postgres"
}

start_server() {
    unset DATABASE_URL
    [ "$scenario" != postgres ] || start_postgres
    taskset -c 0 target/flamegraph/dist/rowcast --listen "127.0.0.1:$port" --cores 1 --data-dir "$work/data" \
        >"$work/server.log" 2>&1 &
    server=$!
    pids+=("$server")
    local tries=0
    until curl -fsS "$url/readyz" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] && kill -0 "$server" 2>/dev/null || { cat "$work/server.log" >&2; fail "the server did not start"; }
        sleep 0.1
    done
}

metric() { curl -fsS "$url/metrics" | awk -v name="$1" 'index($1, name) == 1 { sum += $2 } END { print sum + 0 }'; }

# Begins when the load has: changes reach subscribers, or subscriptions come and go.
wait_for_load() {
    local name=rowcast_frames_sent_total tries=0
    [ "$scenario" != subscribe-storm ] || name=rowcast_subscriptions
    until [ "$(metric "$name")" -gt 1000 ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] && kill -0 "$load" 2>/dev/null || { cat "$work/load.log" >&2; fail "the load did not start"; }
        sleep 0.1
    done
    sleep 2
}

# Hardware cycles where the machine has them, the clock of the processor where it does not.
event() {
    local said
    said="$(perf stat -e cycles true 2>&1)"
    if [[ "$said" == *"not supported"* ]]; then echo cpu-clock; else echo cycles; fi
}

record() {
    local event frames
    event="$(event)"
    say "recording $scenario for $seconds seconds ($event)"
    frames="$(metric rowcast_frames_sent_total)"
    perf record --quiet -F 997 -e "$event" -g -p "$server" -o "$work/perf.data" -- sleep "$seconds"
    echo "frames sent in these seconds: $(($(metric rowcast_frames_sent_total) - frames))"
}

draw() {
    local commit svg folded
    commit="$(git rev-parse --short HEAD)"
    svg="flamegraphs/$scenario-$commit.svg"
    folded="target/flamegraph/$scenario-$commit.folded"
    perf script -i "$work/perf.data" 2>/dev/null | target/tools/bin/inferno-collapse-perf >"$folded"
    target/tools/bin/inferno-flamegraph --title "$scenario, $commit" --minwidth 0.15 --hash <"$folded" >"$svg"
    say "$svg, from $folded; the widest frames:"
    flamegraphs/widest.sh "$folded"
}

case "$scenario" in
    steady | saturated | sparse | subscribe-storm | postgres) ;;
    *) fail "say which: steady, saturated, sparse, subscribe-storm or postgres" ;;
esac
[ "$(nproc)" -ge 2 ] || fail "the server and the load need a processor each"
install_tools
build
start_server
load >"$work/load.log" 2>&1 &
load=$!
pids+=("$load")
wait_for_load
record
draw
