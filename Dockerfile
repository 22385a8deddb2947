# The controller's image: make image, or docker build . (with BuildKit), podman build, buildah build. Both bases are
# arguments: the builder has Rust as in rust-toolchain.toml and a C compiler, the base a glibc that is no older than the
# builder's. Nothing is run in the last stage, so that a base without a shell will do.
ARG BUILDER=rust:1.95.0-slim-bookworm
ARG BASE=debian:bookworm-slim

FROM ${BUILDER} AS build
WORKDIR /src
COPY . .
# What cargo fetched and built stays with the builder from one build to the next. The authorities are for a Prometheus
# with TLS: a base has them or not. Cargo tells by the time of a file whether it has changed; that of another checkout may
# be older than what was built from the last one, which must not end up in this image.
RUN --mount=type=cache,id=kubervisor-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=kubervisor-target,target=/src/target,sharing=locked \
    find . -path ./target -prune -o -type f -exec touch {} + \
    && cargo build --release --locked --package kubervisor --bin kubervisor \
    && install -D target/release/kubervisor /image/usr/local/bin/kubervisor \
    && install -D -m 644 LICENSE /image/usr/share/doc/kubervisor/LICENSE \
    && install -D -m 644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt

FROM ${BASE}
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="kubervisor" \
      org.opencontainers.image.description="Takes misbehaving pods out of a Kubernetes Service's traffic on evidence, and puts them back" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image /
# A number, so that runAsNonRoot can tell. It writes no file: the root may be read-only.
USER 65532:65532
EXPOSE 8086
ENTRYPOINT ["/usr/local/bin/kubervisor"]
CMD ["run"]
