#!/usr/bin/env bash
# Compares Rowcast with other servers on this machine, one server at a time on processor 0 and the load on processor 1,
# and writes loadtest/results/<date>-<data>.md with a chart beside it.
#
#   loadtest/compare/run.sh                       every scenario, 5 rounds: about half an hour
#   loadtest/compare/run.sh --quick               one round of 2 seconds each
#   loadtest/compare/run.sh steady saturated      only these (of steady, sparse, saturated, sparse-saturated, idle,
#                                                 resume, tls-steady, tls-idle)
#   loadtest/compare/run.sh --peers floor,rowcast,bun --rounds 9 --duration 3
#   loadtest/compare/run.sh --peers rowcast,before=/path/to/another/rowcast    two builds in turn, in every round
#   loadtest/compare/run.sh --data memory         Rowcast's data in /dev/shm, where an fsync costs nothing; without it on
#                                                 the disk of target/, or in the directory ROWCAST_COMPARE_DISK
#
# What is missing of the servers that are asked for is installed (Debian packages, npm packages beside their servers,
# Centrifugo where there is Go 1.26) or named and left out. Needs Rust, Node.js 18 and npm, and two processors that nobody
# else uses. Ends with 1 if a run failed, or a server that --peers names is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=loadtest/compare

say() { printf '== %s\n' "$*" >&2; }
fail() { printf 'loadtest/compare/run.sh: %s\n' "$*" >&2; exit 1; }
. scripts/packages.sh

case "${1:-}" in
-h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
esac
command -v node >/dev/null || fail "install Node.js 18 or newer; it drives the comparison and serves one of the peers"
command -v taskset >/dev/null || fail "install util-linux, which has taskset"

# The servers that are asked for, between commas.
peers=bun,ws,nats,nchan,centrifugo
for ((place = 1; place <= $#; place++)); do
    case "${!place}" in
    --peers) next=$((place + 1)) peers=${!next:-} ;;
    --peers=*) peers=${!place#*=} ;;
    esac
done
asks_for() { [[ ,$peers, == *,"$1",* ]]; }

# Installs packages where that needs nobody's password; a peer that is missing is left out later.
try_packages() {
    [ "$(id -u)" -eq 0 ] || return 0
    (install_packages "$@") || true
}
! asks_for nats || command -v nats-server >/dev/null || try_packages nats-server
! asks_for nchan || [ -e /usr/lib/nginx/modules/ngx_nchan_module.so ] || try_packages nginx-light libnginx-mod-nchan

for peer in bun ws; do
    if asks_for $peer && [ ! -d $here/$peer/node_modules ] && command -v npm >/dev/null; then
        say "installing the npm package of $here/$peer"
        (cd $here/$peer && npm install --no-package-lock --no-audit --no-fund --silent) || true
    fi
done
if asks_for centrifugo && [ ! -x $here/centrifugo/bin/centrifugo ] && command -v go >/dev/null; then
    say "building Centrifugo"
    GOBIN="$PWD/$here/centrifugo/bin" go install github.com/centrifugal/centrifugo/v6@v6.9.1 || true
fi

say "building Rowcast and the load generator"
cargo build --profile dist --locked --quiet -p rowcast -p rowcast-load
exec node $here/compare.mjs "$@"
