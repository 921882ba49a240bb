# The images of sandbox-toolbox:
#   daemon    the daemon alone, in /opt/sandbox-toolbox
#   sandbox   the default: a computer for an agent, with the daemon in it
#
#   docker build -t sandbox-toolbox .
#   docker run --rm -p 127.0.0.1:2280:2280 sandbox-toolbox
#
# Baked into another image, which needs glibc 2.36 or newer and no Python (docker build --target daemon -t
# sandbox-toolbox:daemon . makes what is copied from):
#   COPY --from=sandbox-toolbox:daemon /opt/sandbox-toolbox /opt/sandbox-toolbox
#   ENTRYPOINT ["/opt/sandbox-toolbox/bin/toolboxd", "serve", "--host", "0.0.0.0"]
#
# Behind a proxy or a mirror of its own, a build takes two optional secrets: the CA certificates to trust and pip's
# configuration (--secret id=ca-certificates,src=... --secret id=pip.conf,src=...).

FROM debian:bookworm-slim AS build

RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates patchelf python3 python3-pip \
 && rm -rf /var/lib/apt/lists/*
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_CONFIG_FILE=/run/pip.conf

# The daemon brings its own Python, less what a server has no use for: the image it runs in may have another or none,
# and what its user does to that one must not touch the daemon.
RUN set -eu; \
    python=/opt/sandbox-toolbox/python; \
    mkdir -p "$python/bin" "$python/lib"; \
    cp /usr/bin/python3.11 "$python/bin/python3"; \
    cp -r /usr/lib/python3.11 "$python/lib/"; \
    cd "$python/lib/python3.11"; \
    rm -rf EXTERNALLY-MANAGED __phello__ config-3.11-* idlelib lib2to3 pydoc_data test tkinter turtledemo; \
    (cd lib-dynload && rm -f _crypt.* _ctypes_test.* _curses* _dbm.* _gdbm.* _test* _xx* nis.* readline.* xx*); \
    ldd "$python/bin/python3" lib-dynload/*.so | awk '$2 == "=>" { print $3 }' | sort -u \
      | grep -vE '/lib(c|dl|m|pthread|resolv|rt|util)\.so' | xargs -I{} cp -L {} "$python/lib/"; \
    mkdir "$python/copyright"; \
    for package in python3.11 $(basename -a "$python"/lib/*.so.* | sed 's|^|*/|' | xargs dpkg -S | cut -d: -f1 | sort -u); do \
      cp "/usr/share/doc/$package/copyright" "$python/copyright/$package"; \
    done; \
    patchelf --set-rpath '$ORIGIN/../lib' "$python/bin/python3"; \
    patchelf --set-rpath '$ORIGIN/../..' lib-dynload/*.so; \
    patchelf --set-rpath '$ORIGIN' "$python"/lib/*.so.*; \
    "$python/bin/python3" -m venv --without-pip /opt/sandbox-toolbox

WORKDIR /src

# Dependencies first: they change less often than the sources.
COPY pyproject.toml requirements-dev.txt ./
RUN --mount=type=secret,id=ca-certificates,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip.conf,target=/run/pip.conf \
    set -eu; \
    python3 -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
print(*project["dependencies"], *project["optional-dependencies"]["controlplane"], sep="\n")' > requirements.txt; \
    python3 -m pip --python /opt/sandbox-toolbox/bin/python3 install --no-cache-dir --no-compile --only-binary :all: \
      -c requirements-dev.txt -r requirements.txt

COPY . .
# Compiled here, because the daemon's user may not write beside the sources.
RUN --mount=type=secret,id=ca-certificates,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip.conf,target=/run/pip.conf \
    set -eu; \
    python3 -m pip --python /opt/sandbox-toolbox/bin/python3 install --no-cache-dir --no-compile --no-deps \
      '.[controlplane]'; \
    find /opt/sandbox-toolbox -name __pycache__ -prune -exec rm -r {} +; \
    /opt/sandbox-toolbox/bin/python3 -m compileall -q --invalidation-mode unchecked-hash /opt/sandbox-toolbox


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
