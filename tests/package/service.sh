#!/usr/bin/env bash
# Runs the service of a system in this directory as its unit says, in the foreground: the user, the directory of its state,
# the environment, the command. What of a unit only systemd can do (the sandbox) is left out. As root.
set -euo pipefail
root=$1

# A setting of the unit.
unit() { sed -n "s/^$1=//p" "$root/usr/lib/systemd/system/rowcast.service"; }

user="$(unit User)" group="$(unit Group)"
chroot "$root" install -d -o "$user" -g "$group" -m "$(unit StateDirectoryMode)" "/var/lib/$(unit StateDirectory)"
file="$(unit EnvironmentFile)"
mapfile -t settings < <(unit Environment; grep '^[A-Z]' "$root${file#-}")
read -ra command < <(unit ExecStart)
exec chroot --userspec="$user:$group" "$root" env -i "${settings[@]}" "${command[@]}"
