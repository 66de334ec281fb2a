#!/bin/bash
# Installs what benches/relay.py compares Gatepost with, on Debian 12, as root or through sudo:
# Postfix and OpenSMTPD as the tests have them, and Exim. May be run any number of times.
#
# Exim's package conflicts with Postfix's, so it is only unpacked, into target/peers/, and loses its
# set-user-id bit: root starts it.
set -euo pipefail
cd "$(dirname "$0")/.."

tests/peers/install.sh

cache="${GATEPOST_PEERS:-target/peers}"
# What the unpacked exim4 is linked with, and strace, which counts syncs.
packages=(libcrypt1 libdb5.3 libgnutls-dane0 libgnutls30 libidn12 libidn2-0 libnsl2 libpcre2-8-0 strace)

root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

missing=()
for package in "${packages[@]}"; do
    # shellcheck disable=SC2016 # a format of dpkg-query, not of the shell
    state="$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)"
    [ "$state" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    root apt-get update -qq
    root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if [ ! -x "$cache/exim/usr/sbin/exim4" ]; then
    mkdir -p "$cache"
    work="$(mktemp -d "$cache/unpack.XXXXXX")"
    (cd "$work" && apt-get download -qq exim4-daemon-light 2>/dev/null && dpkg -x exim4-daemon-light_*.deb root)
    chmod u-s "$work/root/usr/sbin/exim4"
    rm -rf "$cache/exim"
    mv "$work/root" "$cache/exim"
    rm -rf "$work"
fi

echo "relays: $("$cache/exim/usr/sbin/exim4" --version 2>/dev/null | head -1) in $cache/exim"
