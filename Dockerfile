# The images of sandbox-toolbox:
#   daemon    the daemon alone, in /opt/sandbox-toolbox
#   sandbox   the default: a computer for an agent, with the daemon in it
#
#   docker build -t sandbox-toolbox .
#   docker run --rm -p 127.0.0.1:2280:2280 sandbox-toolbox
#
# Baked into another image, of any Linux and with nothing installed (docker build --target daemon -t
# sandbox-toolbox:daemon . makes what is copied from):
#   COPY --from=sandbox-toolbox:daemon /opt/sandbox-toolbox /opt/sandbox-toolbox
#   ENTRYPOINT ["/opt/sandbox-toolbox/bin/toolboxd", "serve", "--host", "0.0.0.0"]
#
# Behind a proxy or a mirror of its own, a build takes two optional secrets: the CA certificates to trust and pip's
# configuration (--secret id=ca-certificates,src=... --secret id=pip.conf,src=...).

FROM debian:bookworm-slim AS build

RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates gcc libc6-dev python3 python3-pip \
 && rm -rf /var/lib/apt/lists/*
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_CONFIG_FILE=/run/pip.conf
WORKDIR /src
COPY . .
# The same as `make bundle`. Packages are kept for the next build: sources change more often than dependencies.
RUN --mount=type=secret,id=ca-certificates,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip.conf,target=/run/pip.conf \
    --mount=type=cache,target=/root/.cache/pip \
    python3 -m bundle /opt/sandbox-toolbox


# What both images have beside the daemon itself, which comes last: it changes most often.
FROM debian:bookworm-slim AS common

LABEL org.opencontainers.image.title="sandbox-toolbox" org.opencontainers.image.licenses="Apache-2.0"
# Linked, not on the PATH: `python3` is the sandbox's, never the daemon's. The work directory suits any user.
RUN ln -s /opt/sandbox-toolbox/bin/toolboxd /usr/local/bin/toolboxd \
 && mkdir -m 1777 /workspace
WORKDIR /workspace
# Without the host it answers nobody outside the container.
ENV LANG=C.UTF-8 TOOLBOX_HOST=0.0.0.0
EXPOSE 2280
ENTRYPOINT ["toolboxd"]
CMD ["up"]


FROM common AS daemon

COPY --from=build /opt/sandbox-toolbox /opt/sandbox-toolbox


FROM common AS sandbox

RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      ca-certificates curl git less procps python3 python3-pip python3-venv ripgrep unzip \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --shell /bin/bash --uid 1000 sandbox
COPY --from=build /opt/sandbox-toolbox /opt/sandbox-toolbox
