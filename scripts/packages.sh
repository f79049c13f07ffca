# Installing Debian packages, for scripts that source this: they have `say` and `fail`, and know what is missing.

# Runs a command as root, or fails with the sentence that says what to do.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        command -v sudo >/dev/null || fail "run this as root, or have an administrator run: $*"
        sudo "$@"
    fi
}

# Installs these packages, or fails with the sentence that says what to do.
install_packages() {
    command -v apt-get >/dev/null || fail "install these and start again: $* (this system has no apt-get to do it)"
    say "installing $*"
    as_root apt-get update -qq || fail "apt-get update failed; without it these cannot be installed: $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null ||
        fail "apt-get could not install $*"
}

# Unpacks a package into a directory, without installing it.
unpack_package() {
    local package="$1" into="$2"
    command -v apt-get >/dev/null || fail "install $package and start again (this system has no apt-get to do it)"
    download_package "$package" "$into" || { as_root apt-get update -qq && download_package "$package" "$into"; } ||
        fail "apt-get could not download $package"
    dpkg-deb -x "$into/$package"_*.deb "$into"
    rm "$into/$package"_*.deb
}

# As root, apt-get says that it downloads as root, which is no fault.
download_package() { (cd "$2" && apt-get download -qq "$1" 2>/dev/null); }
