# The gateway: the OpenAI API, no model library. Build from the repository's root:
#   docker build -f deploy/gateway.Dockerfile -t y26hkx-gateway .
# To pin it: --build-arg PYTHON_IMAGE=python:3.12-slim@sha256:…
ARG PYTHON_IMAGE=python:3.12-slim
FROM ${PYTHON_IMAGE} AS build
WORKDIR /app
COPY run.py pyproject.toml requirements.lock README.md ./
COPY bootstrap bootstrap
# uv at its locked version, outside .venv, so that the image does not carry it.
RUN pip install --no-cache-dir "$(grep -o '^uv==[0-9.]*' requirements.lock)"
RUN --mount=type=cache,target=/root/.cache/uv \
    UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 python run.py setup gateway redis guard

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Y26HKX gateway" \
    org.opencontainers.image.description="OpenAI's API in front of chat and embedding workers" \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin y26hkx
WORKDIR /app
COPY --from=build /app/.venv .venv
COPY common common
COPY protos protos
COPY cli cli
COPY gateway gateway
# Bytecode, because nothing can be written later: health checks start in a quarter of the time.
RUN python -m compileall -q .
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    GATEWAY_HOST=0.0.0.0 \
    GATEWAY_PORT=8001
USER 10001
EXPOSE 8001
HEALTHCHECK --interval=30s --start-interval=2s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-S", "-m", "cli.probe", "gateway", "--port", "8001"]
ENTRYPOINT ["python", "-m", "gateway"]
