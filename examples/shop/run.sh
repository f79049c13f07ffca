#!/usr/bin/env bash
# A shop that lives: a Postgres of its own with four tables, Rowcast on it, and customers who order. Ends with Ctrl-C,
# and leaves nothing behind.
#
#   examples/shop/run.sh [STEPS_PER_SECOND [SEED]]      # 20 and 0.5
#
# Needs Postgres' programs (initdb, pg_ctl, psql) and this repository's `rowcast`, which it builds if need be.
set -euo pipefail
cd "$(dirname "$0")/../.."
rate=${1:-20} seed=${2:-0.5} port=${ROWCAST_SHOP_PORT:-8080} database_port=$((20000 + RANDOM % 10000))

# Debian keeps Postgres' own programs off the PATH.
program() {
    command -v "$1" || ls -d /usr/lib/postgresql/*/bin/"$1" 2>/dev/null | tail -1 | grep . ||
        { echo "install Postgres: its $1 is neither on the PATH nor in /usr/lib/postgresql" >&2; return 1; }
}
initdb=$(program initdb) pg_ctl=$(program pg_ctl) psql=$(program psql)
rowcast=${ROWCAST:-target/release/rowcast}
[ -x "$rowcast" ] || { cargo build --release --locked; rowcast=target/release/rowcast; }

home=$(mktemp -d)
as=()
# Postgres refuses to run as root.
[ "$(id -u)" != 0 ] || { chown nobody "$home"; as=(setpriv --reuid nobody --clear-groups); }
server='' customers=''
cleanup() {
    trap - EXIT
    trap '' INT TERM
    [ -z "$customers" ] || kill "$customers" 2>/dev/null || true
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    wait 2>/dev/null || true
    "${as[@]}" "$pg_ctl" -D "$home/data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$home"
}
trap cleanup EXIT
trap 'exit 0' INT TERM

"${as[@]}" "$initdb" -D "$home/data" -U shop --auth trust -E UTF8 --locale C >/dev/null
"${as[@]}" "$pg_ctl" -D "$home/data" -w -l "$home/log" \
    -o "-c listen_addresses=127.0.0.1 -c port=$database_port -c unix_socket_directories=$home -c fsync=off" start >/dev/null
export PGHOST=127.0.0.1 PGPORT=$database_port PGUSER=shop
in_shop=("$psql" -qX -v ON_ERROR_STOP=1 shop)
"$psql" -qX -c "CREATE DATABASE shop" postgres
"${in_shop[@]}" -f examples/shop/schema.sql
"${in_shop[@]}" -c "CALL shop.fill($seed)"

"$rowcast" --database-url "postgres://shop@127.0.0.1:$database_port/shop?sslmode=disable" --listen "127.0.0.1:$port" --allowed-origin null \
    --table shop.customers --table shop.articles --table shop.orders --table shop.shipments &
server=$!
until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
    kill -0 "$server" || exit 1
    sleep 0.1
done
"${in_shop[@]}" -c "CALL shop.live(1000000000, $rate, $seed)" &
customers=$!

page="file://$PWD/examples/shop/index.html"
[ "$port" = 8080 ] || page="$page?port=$port"
echo
echo "The shop is open: $page"
echo "Ctrl-C closes it."
wait "$server"
