#!/usr/bin/env bash
# Installs, with apt-get, what the tests of drivers and of deploy/ compile and run with. For CI and
# for throwaway machines: on your own, install what you care about yourself.
set -uo pipefail

say() { printf 'toolchains: %s\n' "$*"; }

if ! command -v apt-get >/dev/null; then
    say "no apt-get here, so nothing is installed"
    exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        say "neither root nor sudo without a password, so nothing is installed"
        exit 0
    fi
    as_root=(sudo -n)
fi

packages=(
    libcurl4                                   # mongod is linked with it
    golang-go golang-mongodb-mongo-driver-dev  # Go
    libmongodb-java                            # Java
    gcc pkg-config libmongoc-dev               # C
    php-cli php-mongodb                        # PHP
    prometheus                                 # its promtool, for what is in deploy/
    chromium                                   # the page of the admin endpoint
)
command -v javac >/dev/null || packages+=(default-jdk-headless)
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)

missing=()
for package in "${packages[@]}"; do
    dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed \
        || missing+=("$package")
done
if [ "${#missing[@]}" -eq 0 ]; then
    say "all there"
    exit 0
fi

say "installing ${missing[*]}"
install=(env DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes
    --option Acquire::Retries=3 --option Dpkg::Use-Pty=0 --no-install-recommends install)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"${as_root[@]}" apt-get --quiet --option Acquire::Retries=3 update >"$log" 2>&1 || { cat "$log"; say "apt-get update failed"; }
if "${as_root[@]}" "${install[@]}" "${missing[@]}" >"$log" 2>&1; then
    say "done"
    exit 0
fi

# One package that is not to be had must not take the others with it.
tail -n 5 "$log"
for package in "${missing[@]}"; do
    "${as_root[@]}" "${install[@]}" "$package" >"$log" 2>&1 || { tail -n 3 "$log"; say "could not install $package"; }
done
# The driver tests say which of them this leaves out.
exit 0
