#!/usr/bin/env bash
# Runs cases 1 to 7, 9 and 10 of the Autobahn test suite (8 does not exist; 12 and 13 are compression) against
# examples/ws_echo.rs, the server's own codec. Passes where every case is OK or INFORMATIONAL, and counts them.
#
#   scripts/autobahn.sh
#
# The suite wants Python 2.7, which is looked for as python2.7, and in pyenv, unless AUTOBAHN_PYTHON names one; its pip
# puts the suite into target/autobahn. Where there is none, Docker runs the suite's image. The reports, one page for
# each case, are in target/autobahn/reports. Python 3 counts the verdicts.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.8.2
image=crossbario/autobahn-testsuite:$version
directory="$PWD/target/autobahn"

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'scripts/autobahn.sh: %s\n' "$*" >&2; exit 1; }

python27() {
    local candidate
    for candidate in "${AUTOBAHN_PYTHON:-}" python2.7 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7.*/bin/python2.7; do
        if [ -n "$candidate" ] && "$candidate" --version >/dev/null 2>&1; then
            printf '%s' "$candidate"
            return
        fi
    done
}

# The last virtualenv that makes environments of Python 2.7 is 20.15.1.
install_suite() {
    [ ! -x "$directory/venv/bin/wstest" ] || return 0
    say "installing autobahntestsuite $version"
    "$1" -m pip install --quiet --target "$directory/virtualenv" virtualenv==20.15.1
    PYTHONPATH="$directory/virtualenv" "$1" -m virtualenv --quiet "$directory/venv"
    "$directory/venv/bin/pip" install --quiet "autobahntestsuite==$version"
}

# Where there is no Python 2.7 it is Docker that brings one.
run_suite() {
    if [ -n "$python" ]; then
        "$directory/venv/bin/wstest" --mode fuzzingclient --spec "$directory/spec.json"
    elif command -v docker >/dev/null; then
        docker run --rm --network host --volume "$directory:$directory" "$image" \
            wstest --mode fuzzingclient --spec "$directory/spec.json"
    else
        fail "the suite needs Python 2.7 (name one with AUTOBAHN_PYTHON) or Docker"
    fi
}

mkdir -p "$directory"
python="$(python27)"
[ -z "$python" ] || install_suite "$python"
say "building the echo server"
cargo build --locked --example ws_echo
echo_log="$directory/ws_echo.log"
"${CARGO_TARGET_DIR:-target}/debug/examples/ws_echo" 127.0.0.1:0 >"$echo_log" 2>&1 &
trap 'kill $!' EXIT
until grep -q '^echoing on ' "$echo_log"; do
    kill -0 $! || fail "the echo server did not start: $(cat "$echo_log")"
done
cat >"$directory/spec.json" <<SPEC
{
    "outdir": "$directory/reports",
    "servers": [{ "agent": "Rowcast", "url": "$(sed -n 's/^echoing on //p' "$echo_log")" }],
    "cases": ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"],
    "exclude-cases": [],
    "exclude-agent-cases": {}
}
SPEC
say "running the cases"
rm -rf "$directory/reports"
run_suite >"$directory/wstest.log" 2>&1 || fail "the suite did not run: $(tail -3 "$directory/wstest.log")"

say "cases by behaviour, and by how the connection closed"
python3 - "$directory/reports/index.json" <<'PYTHON'
import collections, json, sys

cases = json.load(open(sys.argv[1]))["Rowcast"]
for verdict in "behavior", "behaviorClose":
    print(verdict, dict(collections.Counter(case[verdict] for case in cases.values())))
bad = [number for number, case in cases.items()
       if {case["behavior"], case["behaviorClose"]} - {"OK", "INFORMATIONAL"}]
sys.exit(f"not OK: {', '.join(bad)}" if bad or len(cases) < 301 else 0)
PYTHON
