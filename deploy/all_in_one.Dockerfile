# Gateway and both workers in one container, with the built-in models. From the repository's root:
#   docker build -f deploy/all_in_one.Dockerfile -t y26hkx .
#   docker run -p 127.0.0.1:8001:8001 y26hkx
# Without API_KEYS it makes a key and prints it, because a published port may be reached by others.
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
# More than `base` for safetensors models: transformers for chat, embed for embeddings.
ARG EXTRAS="base"
ARG Y26HKX_TORCH=cpu
RUN --mount=type=cache,target=/root/.cache/uv \
    UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 CMAKE_ARGS="$CMAKE_ARGS" Y26HKX_LLAMA="$Y26HKX_LLAMA" \
    Y26HKX_TORCH="$Y26HKX_TORCH" \
    python run.py setup $EXTRAS

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Y26HKX" \
    org.opencontainers.image.description="A local model server: chat and embeddings behind OpenAI's API" \
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
COPY gateway gateway
COPY worker_runtime worker_runtime
COPY chat_worker chat_worker
COPY embed_worker embed_worker
COPY downloads downloads
# Not below models/, where the user's folder is mounted.
COPY models/guide/qwen2-y26hkx-guide.gguf chat_worker/built_in/
# Bytecode, because the server may not write here; what it keeps is in /app/kept, a volume if wanted.
RUN python -m compileall -q . && mkdir kept models && chown 10001:10001 kept
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    HF_HUB_OFFLINE=1 \
    GATEWAY_HOST=0.0.0.0 \
    GATEWAY_PORT=8001 \
    MODELS_DIR=/app/models \
    MEMORY_LEARNT_DIR=/app/kept/learnt \
    CONVERTED_MODELS_DIR=/app/kept/converted
USER 10001
EXPOSE 8001
HEALTHCHECK --interval=30s --start-interval=2s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-S", "-m", "cli.probe", "gateway", "--port", "8001"]
ENTRYPOINT ["python", "-m", "cli", "serve", "--key-if-none"]
