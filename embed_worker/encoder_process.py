"""The process that holds one embedding model: `python -m embed_worker.encoder_process`.

Two threads: the front thread reads the pipe and tokenizes, the other runs the model.
"""

import logging
import os
import sys
import threading
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Raw

from common.error_texts import ErrorText
from common.errors import BackendLoadFailed
from common.freed_memory import return_freed_memory
from embed_worker.encoders.loaded import LoadedEncoder
from embed_worker.engine.cache import Cache, VectorCache
from embed_worker.engine.call import FLOAT_BYTES, TOKEN_TYPE, Row
from embed_worker.engine.loop import run_engine
from embed_worker.engine.queue import Queue
from embed_worker.engine.runner import BatchFailed
from embed_worker.pipe_messages import (
    Facts,
    Listen,
    LoadSpec,
    StopListening,
    request_decoder,
    spec_decoder,
)
from embed_worker.request_handler import RequestHandler
from embed_worker.watched_runner import WatchedRunner
from worker_runtime.conversion.cache import NotConvertible
from worker_runtime.engine_process.host import Outbox, host_engine
from worker_runtime.model_files.odd_paths import library_path

if TYPE_CHECKING:
    from embed_worker.direct_streams.process_end import DirectStreams

ENGINE_DIED = 70

log = logging.getLogger(__name__)


class EncoderProcess:
    """The engine that `host_engine` runs."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._queue: Queue | None = None
        self._request_handler: RequestHandler | None = None
        self._direct_streams: DirectStreams | None = None
        self._close: Callable[[], None] = lambda: None

    def load(self, spec: Raw) -> Facts:
        wanted = spec_decoder.decode(spec)
        self._outbox.progress(0.0, "importing libraries")
        model = _load(wanted, self._outbox)
        self._outbox.progress(0.9, "warming up")
        _warm_up(model)
        return_freed_memory()
        batch_tokens = wanted.batch_tokens or model.batch_tokens
        cache = self._cache(wanted, model)
        queue = Queue(
            batch_tokens=batch_tokens,
            batch_rows=wanted.max_batch_rows,
            max_tokens=wanted.max_queued_tokens,
            max_inputs=wanted.max_queued_inputs,
            cache=cache,
        )
        self._queue = queue
        self._request_handler = RequestHandler(model, wanted, queue, cache)
        threading.Thread(target=self._run, args=(queue, model), name="model", daemon=True).start()
        return Facts(
            backend=model.backend,
            device=model.device,
            dimension=model.runner.dimension,
            max_tokens=model.tokens.max_tokens,
            n_vocab=model.tokens.n_vocab,
            batch_tokens=batch_tokens,
            precision=model.precision,
            cosine=model.cosine,
            prompt_names=sorted(model.prompts.by_name),
            default_prompt_name=model.prompts.default_name,
        )

    def submit(self, call_id: int, body: Raw) -> None:
        assert self._request_handler is not None
        match request_decoder.decode(body):
            case Listen() as listen:
                self._direct().open(call_id, listen)
            case StopListening(secret=secret):
                self._direct().end(secret)
                self._outbox.ended(call_id)
            case request:
                self._request_handler.begin(call_id, request, self._outbox)

    def cancel(self, call_id: int) -> None:
        if self._queue is not None:
            self._queue.cancel(call_id)
        if self._direct_streams is not None:
            self._direct_streams.cancel(call_id)

    def shed(self) -> None:
        if self._queue is not None:
            self._queue.shed()

    def limit_caches(self, max_bytes: int) -> None:
        """Never sent: the cache of vectors has a fixed size."""

    def close(self) -> None:
        self._close()

    def _run(self, queue: Queue, model: LoadedEncoder) -> None:
        try:
            runner = WatchedRunner(model.runner, self._outbox.watchdog)
            run_engine(queue, runner, together=self._together)
        except Exception:
            # Without its model thread this process would never answer. Its end informs all callers,
            # and the next request gets a new process.
            log.exception("the model thread died")
            sys.stderr.flush()
            os._exit(ENGINE_DIED)

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Send all answers of a batch in one write to each of those who wait."""
        streams = nullcontext() if self._direct_streams is None else self._direct_streams.together()
        with self._outbox.together(), streams:
            yield

    def _direct(self) -> "DirectStreams":
        if self._direct_streams is None:
            # Imported here because protobuf takes memory, and few processes get such a stream.
            from embed_worker.direct_streams.process_end import DirectStreams

            assert self._request_handler is not None
            assert self._queue is not None
            self._direct_streams = DirectStreams(
                self._request_handler, self._queue.cancel, self._outbox
            )
        return self._direct_streams

    def _cache(self, wanted: LoadSpec, model: LoadedEncoder) -> Cache:
        memory = VectorCache(wanted.cache_bytes, wanted.cache_ttl_s)
        if not wanted.cache_dir:
            return memory
        from embed_worker.disk_cache import DiskCache, TwoTierCache

        disk = DiskCache(
            Path(wanted.cache_dir),
            "\0".join((wanted.fingerprint, model.backend, model.device, model.precision)),
            vector_bytes=model.runner.dimension * FLOAT_BYTES,
            max_bytes=wanted.cache_dir_bytes,
            ttl_s=wanted.cache_ttl_s,
        )
        self._close = disk.close
        return TwoTierCache(memory, disk)


def _load(wanted: LoadSpec, outbox: Outbox) -> LoadedEncoder:
    """Each library is imported only where it is used, because it takes seconds and much memory."""
    match wanted.backend:
        case "openvino":
            return _openvino(wanted, outbox)
        case "sentence-transformers":
            return _torch(wanted, outbox)
        case "llama.cpp" | "llama.cpp-reranker":
            return _llama_cpp(wanted, outbox)
        case "cross-encoder":
            return _cross_encoder(wanted, outbox)
        case "causal-reranker":
            from embed_worker.encoders import causal_reranker

            return causal_reranker.load(
                library_path(wanted.path),
                device=wanted.device,
                n_threads=wanted.n_threads,
                on_progress=outbox.progress,
            )
        case "static":
            from embed_worker.encoders import static

            return static.load(library_path(wanted.path))
    raise BackendLoadFailed(
        ErrorText("encoder_unknown", backend=wanted.backend), metadata={"backend": wanted.backend}
    )


def _openvino(wanted: LoadSpec, outbox: Outbox) -> LoadedEncoder:
    from embed_worker.encoders import openvino

    try:
        model = openvino.load(
            library_path(wanted.path),
            cache=Path(wanted.converted_dir),
            precision=wanted.precision,
            n_threads=wanted.n_threads,
            on_progress=outbox.progress,
        )
    except NotConvertible as reason:
        raise BackendLoadFailed(
            ErrorText("openvino_refuses", detail=reason),
            suggestions=(ErrorText("use_torch"),),
            metadata={"backend": wanted.backend},
        ) from reason
    log.info("OpenVINO computes in %s, cosine to torch %.6f", model.precision, model.cosine)
    return model


def _torch(wanted: LoadSpec, outbox: Outbox) -> LoadedEncoder:
    from embed_worker.encoders import torch

    return torch.load(
        library_path(wanted.path),
        device=wanted.device,
        pooling=wanted.pooling,
        n_threads=wanted.n_threads,
        on_progress=outbox.progress,
    )


def _llama_cpp(wanted: LoadSpec, outbox: Outbox) -> LoadedEncoder:
    from embed_worker.encoders import llama_cpp

    return llama_cpp.load(
        library_path(wanted.path),
        batch_tokens=wanted.batch_tokens,
        max_rows=wanted.max_batch_rows,
        n_threads=wanted.n_threads,
        extra_buffers=wanted.extra_buffers,
        pooling=wanted.pooling,
        on_progress=outbox.progress,
    )


def _cross_encoder(wanted: LoadSpec, outbox: Outbox) -> LoadedEncoder:
    from embed_worker.encoders import cross_encoder

    return cross_encoder.load(
        library_path(wanted.path),
        device=wanted.device,
        n_threads=wanted.n_threads,
        on_progress=outbox.progress,
    )


def _warm_up(model: LoadedEncoder) -> None:
    """Run the model once, so that the first request is not slowed down by its first run."""
    try:
        model.runner.encode([Row(array(TOKEN_TYPE, model.tokens.ids(["warm up"])[0]))])
    except BatchFailed as error:
        log.exception("the model cannot encode a text")
        raise BackendLoadFailed(ErrorText("loaded_but_fails")) from error


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    host_engine(EncoderProcess)


if __name__ == "__main__":
    main()
