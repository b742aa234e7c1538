# One embedding worker with OpenVINO and the built-in all-MiniLM-L6-v2. From the repository's root:
#   docker build -f deploy/embed_worker.Dockerfile -t y26hkx-embed-worker .
# With torch, which converts other safetensors models and runs cross-encoders, or with llama.cpp:
#   docker build --build-arg EMBED_EXTRAS="openvino builtin embed llama" …
# To pin it: --build-arg PYTHON_IMAGE=python:3.12-slim@sha256:…
ARG PYTHON_IMAGE=python:3.12-slim
FROM ${PYTHON_IMAGE} AS build
WORKDIR /app
COPY run.py pyproject.toml requirements.lock README.md ./
COPY bootstrap bootstrap
ARG EMBED_EXTRAS="openvino builtin"
# A compiler for llama.cpp, if that is wanted and its author's index has no ready wheel.
RUN case "$EMBED_EXTRAS" in *llama*) \
    apt-get update && apt-get install --yes --no-install-recommends build-essential ;; esac
RUN pip install --no-cache-dir "$(grep -o '^uv==[0-9.]*' requirements.lock)"
# Other machines run this image: llama.cpp has code for all kinds of processors, and takes the best.
ARG Y26HKX_LLAMA=portable
ARG CMAKE_ARGS=""
# cuda for machines with an NVIDIA GPU: several GB more.
ARG Y26HKX_TORCH=cpu
RUN --mount=type=cache,target=/root/.cache/uv \
    UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 CMAKE_ARGS="$CMAKE_ARGS" Y26HKX_LLAMA="$Y26HKX_LLAMA" \
    Y26HKX_TORCH="$Y26HKX_TORCH" \
    python run.py setup $EMBED_EXTRAS

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Y26HKX embedding worker" \
    org.opencontainers.image.description="Embeddings and reranking behind gRPC, with OpenVINO" \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.licenses="Apache-2.0"
# llama.cpp computes with OpenMP.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin y26hkx
WORKDIR /app
COPY --from=build /app/.venv .venv
COPY common common
COPY protos protos
COPY cli cli
COPY worker_runtime worker_runtime
COPY embed_worker embed_worker
# Bytecode, because nothing can be written later: a start takes a fraction of the time.
RUN python -m compileall -q .
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
HEALTHCHECK --interval=30s --start-interval=2s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-S", "-m", "cli.probe", "worker", "--port", "50052"]
ENTRYPOINT ["python", "-m", "embed_worker"]
