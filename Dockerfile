# Gatepost in a container: built with the pinned compiler, run without it, as nobody special.
#
#   docker build -t gatepost .
#   docker run -v ./gatepost.toml:/etc/gatepost/gatepost.toml:ro -v spool:/var/lib/gatepost \
#              -v logs:/var/log/gatepost -p 25:25 gatepost
#
# Let the configuration name /var/lib/gatepost as `spool` and /var/log/gatepost as `log_dir`, and
# leave `user` out: the container starts as that user.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
# The dependencies first, over an empty crate: their layer stays while these two files do. Benches
# and examples are not copied, so the manifest must not ask for them.
COPY Cargo.toml Cargo.lock ./
RUN sed -i '/^\[\[\(bench\|example\|test\)\]\]/,/^$/d' Cargo.toml \
    && mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
    && cargo build --release --locked
COPY src src
# Cargo goes by time stamps, and those of a checkout may be older than the empty crate's.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked \
    && strip target/release/gatepost

FROM debian:bookworm-slim
RUN groupadd --system --gid 10025 gatepost \
    && useradd --system --uid 10025 --gid gatepost --home-dir /var/lib/gatepost --no-create-home \
               --shell /usr/sbin/nologin gatepost \
    && install -d -o gatepost -g gatepost -m 0750 /var/lib/gatepost /var/log/gatepost /run/gatepost \
    && install -d /etc/gatepost
# `trusted_roots = "system"` reads this.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /build/target/release/gatepost /usr/local/bin/gatepost
USER gatepost
VOLUME ["/var/lib/gatepost", "/var/log/gatepost"]
# SMTP, and the admin page where it is turned on.
EXPOSE 25 8025
# Drains: running transactions finish, the queue stays in the spool.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["gatepost", "healthcheck", "-c", "/etc/gatepost/gatepost.toml"]
ENTRYPOINT ["gatepost"]
CMD ["run", "-c", "/etc/gatepost/gatepost.toml"]
