# The program alone, run by a user without rights. Needs BuildKit (Docker 23 or newer).
#
#   docker build -t loms .
#   docker run --rm loms --help

FROM rust:1.95.0-bookworm AS builder
# The image has this version; rust-toolchain.toml would download what only checks of the code need.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /build
COPY . .
# Crates and what was built of them are kept between builds; only the program enters the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked && cp target/release/loms /usr/local/bin/loms

FROM debian:12.14-slim
# The certificates of the web: for a database, a broker or a product service reached over TLS.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/loms --create-home loms
COPY --from=builder /usr/local/bin/loms /usr/local/bin/loms
USER 10001:10001
# Without DATABASE_URL the database is a file below it.
WORKDIR /var/lib/loms
ENTRYPOINT ["loms"]
CMD ["serve"]
