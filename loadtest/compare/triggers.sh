#!/usr/bin/env bash
# Compares what Postgres pays for a write of one row of a served table with a text key and 12 columns with what it pays
# for one of products: the CPU of the writing backend, each write a transaction of its own, the two in turn, medians.
#
#   loadtest/compare/triggers.sh <database URL> [rounds] [writes]
#
# Overwrites the products of that database and the table load_rows, so give it one of its own, on this machine, of a
# superuser (who may read a backend's CPU). ROWCAST is the program that installs (target/dist/rowcast unless set).
set -euo pipefail
cd "$(dirname "$0")/../.."

url="$1" rounds="${2:-7}" writes="${3:-400}"
sql() { psql "$url" --quiet --no-psqlrc --no-align --tuples-only --set ON_ERROR_STOP=1 "$@"; }

columns='c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11'
sql -c "CREATE TABLE IF NOT EXISTS load_rows (id text PRIMARY KEY, ${columns//,/ int,} text)"
"${ROWCAST:-target/dist/rowcast}" migrate --database-url "$url" --table load_rows >/dev/null 2>&1
sql -c 'DELETE FROM products' -c 'DELETE FROM load_rows'

# The statement that writes row i of a table.
statement() {
    case "$1 $2" in
        'insert products') echo "INSERT INTO products (product_id, manufacturer, price_per_unit, units_available, product_name)
            VALUES (i, 'Apple Computer Incorporated', '500EUR', 6, 'MacBook Pro 14 inch, 36 GB')" ;;
        'update products') echo 'UPDATE products SET units_available = units_available + 1 WHERE product_id = i' ;;
        'delete products') echo 'DELETE FROM products WHERE product_id = i' ;;
        'insert load_rows') echo "INSERT INTO load_rows (id, $columns)
            VALUES ('k' || i, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 'abcdefgh')" ;;
        'update load_rows') echo "UPDATE load_rows SET c1 = c1 + 1 WHERE id = 'k' || i" ;;
        'delete load_rows') echo "DELETE FROM load_rows WHERE id = 'k' || i" ;;
    esac
}

# All rounds, for one session of psql. The first warms up, and is not told.
script() {
    local round action table from cpu="split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::bigint"
    for round in $(seq 0 "$rounds"); do
        from=$((round * writes))
        for action in insert update delete; do
            for table in $( ((round % 2)) && echo products load_rows || echo load_rows products); do
                echo "SELECT $cpu AS before \\gset"
                echo "DO \$\$ BEGIN FOR i IN $from..$((from + writes - 1)) LOOP $(statement "$action" "$table"); COMMIT; END LOOP; END \$\$;"
                ((round == 0)) || echo "SELECT '$action $table ' || ($cpu - :before) / $writes.0 / 1000;"
            done
        done
        echo 'VACUUM products; VACUUM product_tombstones; VACUUM load_rows; VACUUM rowcast_tombstones;'
    done
}

script | sql | sort -k1,2 -k3g | awk '
    { name = $1 " " $2; count[name]++; all[name, count[name]] = $3 }
    END { for (name in count) printf "%-20s %6.1f µs\n", name, all[name, int((count[name] + 1) / 2)] }' | sort
