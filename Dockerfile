# Fieldseal in a container: one program and the C library it needs, no shell,
# no package manager, not root, nothing that it writes outside its volume.

FROM rust:1.89-bookworm AS build
WORKDIR /src
# The manifest names the bench, and the demo includes the example schema.
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY benches benches
COPY schema schema
RUN CARGO_PROFILE_RELEASE_LTO=fat cargo build --locked --release --bin fieldseal \
 && install -D target/release/fieldseal /out/fieldseal \
 && mkdir /out/keyring

# The C library and libgcc of the same Debian as above; the tag's user is 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/fieldseal /fieldseal
# A volume that is mounted here first takes over the owner of this folder.
COPY --from=build --chown=65532:65532 /out/keyring /var/lib/fieldseal
USER 65532:65532
# Memory that is free goes back to the system: see docs/performance.md, Allocators.
ENV MALLOC_MMAP_THRESHOLD_=131072 MALLOC_TRIM_THRESHOLD_=262144
# Commands look for ./fieldseal.toml.
WORKDIR /etc/fieldseal
EXPOSE 27117
ENTRYPOINT ["/fieldseal"]
CMD ["serve"]
