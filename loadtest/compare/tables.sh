#!/usr/bin/env bash
# Compares the server's CPU per delivery of rows with a text key and 12 columns with that of products, in frames of one
# size: one server, its data in memory, the two in turn. Prints each round and the medians.
#
#   loadtest/compare/tables.sh [rounds]
#
# Builds nothing: ROWCAST and ROWCAST_LOAD are the programs to run (target/dist/ unless set). On two processors the server
# has the first, the load the second.
set -euo pipefail
cd "$(dirname "$0")/../.."

rounds="${1:-5}"
server="${ROWCAST:-target/dist/rowcast}" load="${ROWCAST_LOAD:-target/dist/rowcast-load}"
port="${PORT:-5680}" connections="${CONNECTIONS:-1000}" duration="${DURATION:-10}"
directory="$(mktemp -d /dev/shm/rowcast-tables.XXXXXX)"

taskset -c 0 "$server" serve --listen "127.0.0.1:$port" --data-dir "$directory/data" 2>"$directory/log" &
pid=$!
trap 'kill "$pid" 2>/dev/null; wait "$pid" 2>/dev/null || true; rm -rf "$directory"' EXIT
until curl -fsS "http://127.0.0.1:$port/readyz" >/dev/null 2>&1; do
    kill -0 "$pid" || { cat "$directory/log" >&2; exit 1; }
    sleep 0.1
done

# One run; prints the microseconds of one delivery.
run() {
    local result="$directory/result.json"
    taskset -c 1 "$load" fanout --overwrite-products --url "ws://127.0.0.1:$port" --connections "$connections" --rate 50 \
        --warm-up 2 --duration "$duration" --payload-bytes 300 --pid "$pid" --json "$result" "$@" >"$directory/run" 2>&1 ||
        { cat "$directory/run" >&2; return 1; }
    jq -r .server.cpu_us_per_delivery "$result"
}

products=() tables=()
median() { printf '%s\n' "$@" | sort -g | awk '{ all[NR] = $1 } END { print (all[int((NR + 1) / 2)] + all[int((NR + 2) / 2)]) / 2 }'; }
for round in $(seq "$rounds"); do
    if ((round % 2)); then
        products+=("$(run)")
        tables+=("$(run --table load --keys text --columns 12)")
    else
        tables+=("$(run --table load --keys text --columns 12)")
        products+=("$(run)")
    fi
    printf 'round %s: products %s µs, table %s µs\n' "$round" "${products[-1]}" "${tables[-1]}"
done
printf 'medians: products %s µs, table %s µs\n' "$(median "${products[@]}")" "$(median "${tables[@]}")"
