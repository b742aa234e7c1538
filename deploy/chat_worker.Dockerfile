# One chat worker with llama.cpp and the built-in guide model. From the repository's root:
#   docker build -f deploy/chat_worker.Dockerfile -t y26hkx-chat-worker .
# With transformers, for safetensors models:
#   docker build --build-arg CHAT_EXTRAS="llama remote transformers" …
# To pin it: --build-arg PYTHON_IMAGE=python:3.12-slim@sha256:…
ARG PYTHON_IMAGE=python:3.12-slim
FROM ${PYTHON_IMAGE} AS build
# For llama.cpp, where its author's index has no ready wheel for this system.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY run.py pyproject.toml requirements.lock README.md ./
COPY bootstrap bootstrap
RUN pip install --no-cache-dir "$(grep -o '^uv==[0-9.]*' requirements.lock)"
# Other machines run this image: llama.cpp has code for all kinds of processors, and takes the best.
ARG Y26HKX_LLAMA=portable
ARG CMAKE_ARGS=""
ARG CHAT_EXTRAS="llama remote"
# cuda for machines with an NVIDIA GPU: several GB more.
ARG Y26HKX_TORCH=cpu
RUN --mount=type=cache,target=/root/.cache/uv \
    UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 CMAKE_ARGS="$CMAKE_ARGS" Y26HKX_LLAMA="$Y26HKX_LLAMA" \
    Y26HKX_TORCH="$Y26HKX_TORCH" \
    python run.py setup $CHAT_EXTRAS

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Y26HKX chat worker" \
    org.opencontainers.image.description="Text generation behind gRPC, with llama.cpp" \
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
COPY chat_worker chat_worker
# Not below models/, where the user's folder is mounted.
COPY models/guide/qwen2-y26hkx-guide.gguf chat_worker/built_in/
# Bytecode, because nothing can be written later: a start takes a fraction of the time.
RUN python -m compileall -q .
# Models converted for OpenVINO, and what else is kept: on volumes, which take their owner from here.
RUN mkdir converted kept && chown 10001:10001 converted kept
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    WORKER_HOST=0.0.0.0 \
    CHAT_WORKER_PORT=50051 \
    MODELS_DIR=/app/models \
    CONVERTED_MODELS_DIR=/app/converted
USER 10001
EXPOSE 50051
HEALTHCHECK --interval=30s --start-interval=2s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-S", "-m", "cli.probe", "worker", "--port", "50051"]
ENTRYPOINT ["python", "-m", "chat_worker"]
