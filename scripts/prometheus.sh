#!/usr/bin/env bash
# Puts the prometheus and the promtool that the tests run into target/tools/prometheus, out of Debian's package. It is not
# installed: that would have this machine start a Prometheus of its own, on port 9090.
#
#   scripts/prometheus.sh --install
#
# Does nothing where both are in the PATH, or in the directory that ROWCAST_PROMETHEUS_BIN names.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'scripts/prometheus.sh: %s\n' "$*" >&2; exit 1; }
. scripts/packages.sh

[ "${1:-}" = --install ] || fail "give --install"
into=target/tools/prometheus

has_both() { [ -x "$1/prometheus" ] && [ -x "$1/promtool" ]; }
has_both "${ROWCAST_PROMETHEUS_BIN:-}" && exit
command -v prometheus >/dev/null && command -v promtool >/dev/null && exit
has_both "$into/usr/bin" && exit

say "unpacking prometheus"
rm -rf "$into" "$into.new"
mkdir -p "$into.new"
unpack_package prometheus "$into.new"
has_both "$into.new/usr/bin" || fail "the package prometheus has no prometheus and promtool; say where they are with ROWCAST_PROMETHEUS_BIN"
mv "$into.new" "$into"
