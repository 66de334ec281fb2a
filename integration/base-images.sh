#!/bin/bash
# Makes sure that the images which the Dockerfile starts from are there.
#
# They are pulled where a container registry can be reached. Where none can, images of the same
# names are made from Debian's packages (debootstrap) and this machine's Rust toolchain, so that the
# Dockerfile need not know. Needs root or sudo for the latter.
set -euo pipefail
cd "$(dirname "$0")"

debian=debian:bookworm-slim
rust=rust:1.95-slim-bookworm
base="$PWD/base"

root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

have() {
    docker image inspect "$1" >/dev/null 2>&1 || timeout 60 docker pull -q "$1" >/dev/null 2>&1
}

# bootstrap NAME PACKAGES: a Debian tree in base/NAME, trusting the certificates this machine trusts.
bootstrap() {
    command -v debootstrap >/dev/null || {
        root apt-get update -qq
        root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
    }
    root rm -rf "$base/$1"
    mkdir -p "$base"
    root debootstrap --variant=minbase --include="$2" bookworm "$base/$1" >"$base/$1.log" 2>&1 \
        || { tail -20 "$base/$1.log" >&2; exit 1; }
    root rm -rf "$base/$1"/var/cache/apt/archives/*.deb "$base/$1"/var/lib/apt/lists/* \
        "$base/$1"/usr/share/doc/* "$base/$1"/usr/share/man/* "$base/$1"/usr/share/locale/*
    root cp /etc/resolv.conf "$base/$1/etc/resolv.conf"
}

# import NAME IMAGE CHANGES…: the tree as an image.
import() {
    local name="$1" image="$2"
    shift 2
    root tar -C "$base/$name" -c . | docker import "$@" - "$image" >/dev/null
    root rm -rf "${base:?}/$name"
    echo "made $image from Debian's packages"
}

if ! have "$debian"; then
    bootstrap debian ca-certificates
    import debian "$debian" --change 'CMD ["bash"]'
fi

if ! have "$rust"; then
    toolchain="$(rustc --print sysroot)"
    case "$(rustc --version)" in
        "rustc 1.95."*) ;;
        *) echo "$rust can be made from Rust 1.95 only; here is $(rustc --version)" >&2; exit 1 ;;
    esac
    bootstrap rust ca-certificates,gcc,libc6-dev
    root cp /etc/ssl/certs/ca-certificates.crt "$base/rust/etc/ssl/certs/ca-certificates.crt"
    root mkdir -p "$base/rust/usr/local/cargo/bin"
    root cp -L "$toolchain"/bin/{cargo,rustc} "$base/rust/usr/local/cargo/bin/"
    # The compiler looks for its libraries beside itself.
    root mkdir -p "$base/rust/usr/local/cargo/lib"
    root cp -a "$toolchain"/lib/*.so* "$base/rust/usr/local/cargo/lib/"
    root mkdir -p "$base/rust/usr/local/cargo/lib/rustlib"
    root cp -a "$toolchain/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')" "$base/rust/usr/local/cargo/lib/rustlib/"
    import rust "$rust" --change 'CMD ["bash"]' --change 'ENV CARGO_HOME=/usr/local/cargo' \
        --change 'ENV PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
fi
