# Installing Debian packages, for scripts that source this: they have `say` and `fail`, and know what is missing.

# Installs these packages, or fails with the sentence that says what to do.
install_packages() {
    local as_root=()
    command -v apt-get >/dev/null || fail "install these and start again: $* (this system has no apt-get to do it)"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "run this as root, or have an administrator run: apt-get install $*"
        as_root=(sudo)
    fi
    say "installing $*"
    "${as_root[@]}" apt-get update -qq || fail "apt-get update failed; without it these cannot be installed: $*"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null ||
        fail "apt-get could not install $*"
}
