# One embedding worker with OpenVINO, sentence-transformers and the built-in all-MiniLM-L6-v2. From the
# repository's root:
#   docker build -f deploy/embed_worker.Dockerfile -t y26hkx-embed-worker .
FROM python:3.12-slim AS build
WORKDIR /app
COPY run.py pyproject.toml requirements.lock README.md ./
COPY bootstrap bootstrap
RUN pip install --no-cache-dir "$(grep -o '^uv==[0-9.]*' requirements.lock)"
# cuda for machines with an NVIDIA GPU: several GB more.
ARG Y26HKX_TORCH=cpu
RUN --mount=type=cache,target=/root/.cache/uv \
    UV_LINK_MODE=copy Y26HKX_TORCH="$Y26HKX_TORCH" python run.py setup embed openvino builtin

FROM python:3.12-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin y26hkx
WORKDIR /app
COPY --from=build /app/.venv .venv
COPY common common
COPY protos protos
COPY cli cli
COPY worker_runtime worker_runtime
COPY embed_worker embed_worker
# Models converted for OpenVINO, and what else is kept: on volumes, which take their owner from here.
RUN mkdir converted kept && chown 10001:10001 converted kept
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    HF_HUB_OFFLINE=1 \
    WORKER_HOST=0.0.0.0 \
    EMBED_WORKER_PORT=50052 \
    MODELS_DIR=/app/models \
    CONVERTED_MODELS_DIR=/app/converted
USER 10001
EXPOSE 50052
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-m", "cli.probe", "worker", "--port", "50052"]
ENTRYPOINT ["python", "-m", "embed_worker"]
