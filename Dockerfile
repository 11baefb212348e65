# The image holds the binary and nothing else of ours: no configuration, no secret.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p holdpoint-cli --bin holdpoint

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin holdpoint
COPY --from=build /src/target/release/holdpoint /usr/local/bin/holdpoint
USER 10001:10001
WORKDIR /tmp
EXPOSE 4653 9464
ENTRYPOINT ["/usr/local/bin/holdpoint"]
CMD ["--help"]
