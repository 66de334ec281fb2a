#!/bin/bash
# Installs the foreign mail programs that the tests talk to, on Debian 12, as root or through sudo.
# May be run any number of times; when everything is there it only looks.
#
# Postfix is installed but never started: each test starts private instances (peers.py).
# OpenSMTPD's package conflicts with Postfix's, so it is only unpacked, into target/peers/.
set -euo pipefail
cd "$(dirname "$0")/../.."

cache="${GATEPOST_PEERS:-target/peers}"
packages=(swaks postfix python3 curl openssl libio-socket-ssl-perl libnet-ssleay-perl)
# A client beside OpenSSL's, and two that look for weak ciphers.
packages+=(gnutls-bin nmap testssl.sh)
# Libraries that the unpacked smtpd is linked with.
packages+=(libevent-2.1-7 libdb5.3 libpam0g libssl3 zlib1g)

root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

refreshed=
refresh() {
    [ -n "$refreshed" ] || root apt-get update -qq
    refreshed=1
}

missing=()
for package in "${packages[@]}"; do
    # shellcheck disable=SC2016 # a format of dpkg-query, not of the shell
    state="$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)"
    [ "$state" = installed ] || missing+=("$package")
done

if [ ${#missing[@]} -gt 0 ]; then
    refresh
    # Debian starts what it installs unless this says no.
    policy=
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' | root tee "$policy" >/dev/null
        root chmod +x "$policy"
        trap 'root rm -f "$policy"' EXIT
    fi
    echo 'postfix postfix/main_mailer_type select No configuration' | root debconf-set-selections
    root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if [ ! -x "$cache/opensmtpd/usr/sbin/smtpd" ]; then
    refresh
    mkdir -p "$cache"
    work="$(mktemp -d "$cache/unpack.XXXXXX")"
    (cd "$work" && apt-get download -qq opensmtpd 2>/dev/null && dpkg -x opensmtpd_*.deb root)
    rm -rf "$cache/opensmtpd"
    mv "$work/root" "$cache/opensmtpd"
    rm -rf "$work"
fi

# postconf reads this file, which "No configuration" leaves out.
if [ ! -e /etc/postfix/main.cf ]; then
    printf 'compatibility_level = 3.6\n' | root tee /etc/postfix/main.cf >/dev/null
fi

echo "peers: $(swaks --version | head -1), $(postconf -h mail_version 2>/dev/null | sed 's/^/postfix /'), opensmtpd in $cache/opensmtpd"
