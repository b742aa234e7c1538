"""One loaded chat model in a process of its own: `python -m chat_worker.engine_process`.

Three threads: this one reads the pipe, renders and tokenizes; the loop's touches the model and
sees token ids only; the output processor's turns tokens into text and writes. Nothing else is
shared.
"""

import os
import sys
import time
import traceback
from pathlib import Path

from jinja2 import TemplateError
from msgspec import Raw

from chat_worker import pipe_messages as m
from chat_worker.backend import Backend
from chat_worker.engine.disk_prefix_cache import DiskPrefixCache
from chat_worker.engine.loop import EngineLoop
from chat_worker.engine.sequence import Sequence
from chat_worker.input_processor import InputProcessor
from chat_worker.output_processor import OutputProcessor
from chat_worker.text.chat_format import ChatFormat
from chat_worker.text.detokenize import Detokenizer
from chat_worker.text.prompt import PromptEncoder
from chat_worker.text.template import ChatTemplate
from common.errors import BackendFailure, BackendLoadFailed, InvalidRequest, ServingError
from worker_runtime.engine_process.host import Outbox, host_engine

EXIT_ENGINE_DIED = 70
CLOSE_TIMEOUT_S = 5.0


class ChatEngine:
    """Implements `worker_runtime.engine_process.host.Engine`."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._model: _Model | None = None

    def load(self, spec: Raw) -> m.Facts:
        wanted = m.spec_decoder.decode(spec)
        backend = _load_backend(wanted, self._outbox)
        self._model = _Model(wanted, backend, self._outbox)
        return backend.facts

    def submit(self, call_id: int, body: Raw) -> None:
        try:
            assert self._model is not None, "the worker loads before it submits"
            self._model.submit(call_id, m.request_decoder.decode(body))
        except ServingError as error:
            self._outbox.ended(call_id, error)
        except Exception:  # noqa: BLE001 - a request's outermost frame: the others must go on
            traceback.print_exc(file=sys.stderr)
            self._outbox.ended(call_id, BackendFailure("the request could not be prepared"))

    def cancel(self, call_id: int) -> None:
        if self._model is not None:
            self._model.cancel(call_id)

    def shed(self) -> None:
        if self._model is not None:
            self._model.loop.shed()

    def close(self) -> None:
        if self._model is not None:
            self._model.loop.close(CLOSE_TIMEOUT_S)


class _Model:
    """A loaded backend with its threads."""

    def __init__(self, spec: m.LoadSpec, backend: Backend, outbox: Outbox) -> None:
        self._outbox = outbox
        self._tokenizer = backend.tokenizer
        self._encoder = PromptEncoder(backend.tokenizer, _template(backend))
        chat_format = ChatFormat(backend.tokenizer, backend.template or "")
        self._input_processor = InputProcessor(
            spec, backend.tokenizer, self._encoder, chat_format, backend.runner.limits
        )
        self._output_processor = OutputProcessor(
            outbox, backend.tokenizer, chat_format.marks, time.monotonic, self._end_sequences
        )
        disk_cache = _disk_cache(spec, backend)
        self.loop = EngineLoop(
            backend.runner, self._output_processor.write, self._die, disk_cache=disk_cache
        )
        self._output_processor.start()
        self.loop.start()

    def submit(self, call_id: int, request: m.EngineRequest) -> None:
        match request:
            case m.Generate():
                self._generate(call_id, request)
            case m.Tokenize():
                self._outbox.answer(call_id, self._tokens(request))
            case m.Detokenize(tokens):
                self._outbox.answer(call_id, m.RenderedText(self._text(tokens)))
            case m.ApplyTemplate(conversation):
                whole = self._input_processor.completed(conversation)
                ids = self._encoder.encode(whole)
                text = self._encoder.render(whole)
                self._outbox.answer(call_id, m.RenderedText(text, ids, self._pieces(ids)))

    def cancel(self, call_id: int) -> None:
        self._output_processor.abandon(call_id)

    def _generate(self, call_id: int, request: m.Generate) -> None:
        prepared = self._input_processor.prepare(call_id, request)
        self._output_processor.open(call_id, prepared)
        self.loop.begin(prepared.sequences)

    def _tokens(self, request: m.Tokenize) -> m.Tokens:
        ids = self._tokenizer.encode(request.text, parse_control=request.parse_special)
        if request.add_special:
            ids = self._tokenizer.prefix + ids
        return m.Tokens(ids, self._pieces(ids))

    def _text(self, tokens: list[int]) -> str:
        if any(not 0 <= token < self._tokenizer.n_vocab for token in tokens):
            raise InvalidRequest("a token is not in the vocabulary", param="tokens")
        detokenizer = Detokenizer()
        return detokenizer.push(b"".join(self._pieces(tokens))) + detokenizer.flush()

    def _pieces(self, tokens: list[int]) -> list[bytes]:
        return [self._tokenizer.piece(token, show_control=True) for token in tokens]

    def _end_sequences(self, sequences: list[Sequence]) -> None:
        self.loop.end(sequences)

    def _die(self) -> None:
        """The loop's thread is dying: everybody learns it, and the worker starts a new process."""
        self._output_processor.fail_all(CLOSE_TIMEOUT_S)
        os._exit(EXIT_ENGINE_DIED)


def _load_backend(spec: m.LoadSpec, outbox: Outbox) -> Backend:
    match spec.backend:
        case "llama.cpp":
            from chat_worker.backends.llama_cpp.load import load

            return load(spec, lambda fraction: outbox.progress(fraction, "weights"))
        case "transformers":
            outbox.progress(0.0, "importing libraries")
            from chat_worker.backends.transformers.load import load as load_folder

            return load_folder(spec, outbox.progress)
        case _:
            raise BackendLoadFailed(
                f"the {spec.backend} backend is not available in this version",
                suggestions=("use a GGUF of the model with MODEL_BACKEND=llama.cpp",),
                metadata={"backend": spec.backend},
            )


def _disk_cache(spec: m.LoadSpec, backend: Backend) -> DiskPrefixCache | None:
    if not spec.kept_folder or backend.slot_files is None:
        return None
    # The fingerprint knows the library's version.
    identity = f"{spec.fingerprint} {spec.kv_type}"
    return DiskPrefixCache(backend.slot_files, Path(spec.kept_folder), identity, spec.kept_bytes)


def _template(backend: Backend) -> ChatTemplate | None:
    if backend.template is None:
        return None
    try:
        return ChatTemplate(backend.template, backend.tokenizer.special_texts)
    except TemplateError as error:
        raise BackendLoadFailed(
            "the model's chat template is not valid Jinja",
            metadata={"backend": backend.facts.backend},
        ) from error


def main() -> None:
    host_engine(ChatEngine)


if __name__ == "__main__":
    main()
