"""One loaded chat model in its own process: `python -m chat_worker.engine_process`.

The main thread takes commands and never waits for their results. Two threads render and tokenize,
one for short requests and one for long ones. The loop's thread uses the model and sees token ids
only. The output processor's thread converts tokens to text and writes the answers. All are watched:
a process with a thread that hangs is useless, and its worker ends it.
"""

import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

from jinja2 import TemplateError
from msgspec import Raw, structs

from chat_worker import pipe_messages as m
from chat_worker.backend import Backend
from chat_worker.engine.disk_prefix_cache import DiskPrefixCache
from chat_worker.engine.kept_costs import KeptCosts
from chat_worker.engine.loop import EngineLoop
from chat_worker.engine.prefix_cache import PrefixCache
from chat_worker.engine.sequence import Sequence
from chat_worker.engine.speeds import measured_speeds
from chat_worker.input_processor import InputProcessor, PreparedInput
from chat_worker.output_processor import OutputProcessor
from chat_worker.preparation import Preparation, PreparationLanes
from chat_worker.text.chat_format import ChatFormat
from chat_worker.text.default_templates import TemplateKind, default_template
from chat_worker.text.detokenize import Detokenizer
from chat_worker.text.prompt import Check, PromptEncoder
from chat_worker.text.template import ChatTemplate
from chat_worker.watched_runner import THREAD, WatchedRunner
from common.error_texts import ErrorText
from common.errors import BackendLoadFailed, InvalidRequest
from worker_runtime.engine_process.host import Outbox, host_engine
from worker_runtime.engine_process.model_steps import LEAST_LIMIT_S
from worker_runtime.engine_process.watchdog import Watchdog
from worker_runtime.machine import cores
from worker_runtime.machine.processor import read_processor
from worker_runtime.model_files.odd_paths import path_of

EXIT_ENGINE_DIED = 70
CLOSE_TIMEOUT_S = 5.0
COSTS = "step-costs"  # folder
# What decides how long steps take, beside processor and threads. The fingerprint includes the
# library's version.
DECIDE_COSTS = (
    *("fingerprint", "backend", "n_ctx", "n_cells", "n_parallel", "n_batch", "n_ubatch", "kv_type"),
    *("flash_attention", "extra_buffers", "torch_dtype", "quantization", "compile", "precision"),
)


class ChatEngine:
    """Implements `worker_runtime.engine_process.host.Engine`."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._model: _Model | None = None

    def load(self, spec: Raw) -> m.Facts:
        wanted = m.spec_decoder.decode(spec)
        kept_costs = _kept_costs(wanted)
        backend = _load_backend(wanted, self._outbox, kept_costs)
        if wanted.measures:
            self._outbox.progress(1.0, "measuring")
            prompt_speed, answer_speed = measured_speeds(backend.runner)
            return structs.replace(
                backend.facts, prompt_speed=prompt_speed, answer_speed=answer_speed
            )
        self._model = _Model(wanted, backend, self._outbox, kept_costs)
        return structs.replace(backend.facts, chat_template=self._model.template_kind)

    def submit(self, call_id: int, body: Raw) -> None:
        assert self._model is not None, "the worker loads before it submits"
        self._model.lanes.submit(call_id, body)

    def cancel(self, call_id: int) -> None:
        if self._model is not None:
            self._model.cancel(call_id)

    def shed(self) -> None:
        if self._model is not None:
            self._model.loop.shed()

    def limit_caches(self, max_bytes: int) -> None:
        if self._model is not None:
            self._model.loop.limit_cache(max_bytes)

    def close(self) -> None:
        if self._model is not None:
            self._model.loop.close(CLOSE_TIMEOUT_S)


class _Model:
    """A loaded backend with its threads."""

    def __init__(
        self, spec: m.LoadSpec, backend: Backend, outbox: Outbox, kept_costs: KeptCosts | None
    ) -> None:
        self._outbox = outbox
        self._tokenizer = backend.tokenizer
        template, source, self.template_kind = usable_template(backend, spec.chat_template)
        self._encoder = PromptEncoder(backend.tokenizer, template)
        chat_format = ChatFormat(backend.tokenizer, source, template.traits.written)
        self._input_processor = InputProcessor(
            spec, backend.tokenizer, self._encoder, chat_format, backend.runner.limits
        )
        self._output_processor = OutputProcessor(
            outbox, backend.tokenizer, chat_format.marks, time.monotonic, self._end_sequences
        )
        runner = WatchedRunner(backend.runner, outbox.watchdog)
        prefixes = _prefix_cache(spec, backend, outbox.watchdog)
        self.loop = EngineLoop(
            runner,
            self._output_processor.write,
            self._die,
            prefixes=prefixes,
            kept_costs=kept_costs,
            answer_wait_s=spec.answer_wait_s,
        )
        self.lanes = PreparationLanes(self._prepare, outbox.ended, outbox.watchdog)
        self._output_processor.start()
        self.loop.start()
        self.lanes.start()

    def cancel(self, call_id: int) -> None:
        if not self.lanes.cancel(call_id):
            self._output_processor.abandon(call_id)

    def _prepare(self, preparation: Preparation) -> None:
        """On a lane's thread: begin the generation, or answer a request that needs no model."""
        request = m.request_decoder.decode(preparation.body)
        if isinstance(request, m.Generate):
            prepared = self._input_processor.prepare(
                preparation.call_id, request, preparation.check
            )
            self.lanes.finish(preparation, lambda: self._begin(preparation.call_id, prepared))
        else:
            answer = self._answer(request, preparation.check)
            if self.lanes.finish(preparation):
                self._outbox.answer(preparation.call_id, answer)

    def _begin(self, call_id: int, prepared: PreparedInput) -> None:
        self._output_processor.open(call_id, prepared)
        self.loop.begin(prepared.sequences)

    def _answer(
        self, request: m.Tokenize | m.Detokenize | m.ApplyTemplate, check: Check
    ) -> m.Tokens | m.RenderedText:
        match request:
            case m.Tokenize():
                return self._tokens(request)
            case m.Detokenize(tokens):
                return m.RenderedText(self._text(tokens))
            case m.ApplyTemplate(conversation):
                whole = self._input_processor.completed(conversation)
                ids = self._encoder.encode(whole, check)
                return m.RenderedText(self._encoder.render(whole, check), ids, self._pieces(ids))

    def _tokens(self, request: m.Tokenize) -> m.Tokens:
        ids = self._tokenizer.encode(request.text, parse_control=request.parse_special)
        if request.add_special:
            ids = self._tokenizer.prefix + ids
        return m.Tokens(ids, self._pieces(ids))

    def _text(self, tokens: list[int]) -> str:
        if any(not 0 <= token < self._tokenizer.n_vocab for token in tokens):
            raise InvalidRequest(ErrorText("token_out_of_vocabulary"), param="tokens")
        detokenizer = Detokenizer()
        return detokenizer.push(b"".join(self._pieces(tokens))) + detokenizer.flush()

    def _pieces(self, tokens: list[int]) -> list[bytes]:
        return [self._tokenizer.piece(token, show_control=True) for token in tokens]

    def _end_sequences(self, sequences: list[Sequence]) -> None:
        self.loop.end(sequences)

    def _die(self) -> None:
        """The loop's thread is dying: end all calls with an error. A new process will follow."""
        self._output_processor.fail_all(CLOSE_TIMEOUT_S)
        os._exit(EXIT_ENGINE_DIED)


def _load_backend(spec: m.LoadSpec, outbox: Outbox, kept_costs: KeptCosts | None) -> Backend:
    match spec.backend:
        case "llama.cpp":
            from chat_worker.backends.llama_cpp.load import load

            known = kept_costs.read() if kept_costs else None
            seen = known.products if known else {}
            return load(spec, lambda fraction: outbox.progress(fraction, "weights"), seen)
        case "transformers":
            outbox.progress(0.0, "importing libraries")
            from chat_worker.backends.transformers.load import load as load_folder

            return load_folder(spec, outbox.progress)
        case "openvino":
            _check_openvino(spec)
            outbox.progress(0.0, "importing libraries")
            from chat_worker.backends.openvino.load import load as load_converted

            return load_converted(spec, outbox.progress)
        case _:
            raise BackendLoadFailed(
                ErrorText("backend_unavailable", backend=spec.backend),
                suggestions=(ErrorText("use_gguf"),),
                metadata={"backend": spec.backend},
            )


def _check_openvino(spec: m.LoadSpec) -> None:
    """Raises BackendLoadFailed if the library is missing or cannot run on this processor."""
    # Imported here: it takes a fifth of a process's start, and other backends do not need it.
    from chat_worker.conversions import unusable

    if reason := unusable(spec):
        raise BackendLoadFailed(
            ErrorText("openvino_refuses", detail=reason),
            suggestions=(ErrorText("install", command="pip install 'y26hkx[openvino]'"),),
            metadata={"backend": spec.backend},
        )


def _prefix_cache(spec: m.LoadSpec, backend: Backend, watchdog: Watchdog) -> PrefixCache:
    whole, disk = not backend.runner.limits.can_truncate, None
    if spec.kept_folder and backend.states is not None:
        # The fingerprint includes the library's version.
        # Without flash attention llama.cpp keeps values in another order.
        numbers = (spec.kv_type, spec.flash_attention, spec.torch_dtype, spec.quantization)
        on_openvino = (spec.precision, spec.weight_bits, spec.device)
        identity = " ".join(map(str, (spec.fingerprint, *numbers, *on_openvino)))
        disk = DiskPrefixCache(
            Path(spec.kept_folder),
            identity,
            spec.kept_bytes,
            whole=whole,
            watch=lambda: watchdog.step(THREAD, LEAST_LIMIT_S),
        )
    return PrefixCache(backend.states, disk, whole=whole)


def _kept_costs(spec: m.LoadSpec) -> KeptCosts | None:
    if not spec.learnt_folder:
        return None
    loaded = [getattr(spec, name) for name in DECIDE_COSTS]
    n_threads = spec.n_threads or cores.for_models()
    return KeptCosts(
        path_of(spec.learnt_folder) / COSTS, repr((loaded, n_threads, read_processor()))
    )


class UsableTemplate(NamedTuple):
    """A template that renders, with its source."""

    template: ChatTemplate
    source: str
    kind: TemplateKind


def usable_template(backend: Backend, configured: str = "") -> UsableTemplate:
    """The configured template, else the model's own, or a default one. The worker logs which, and
    shows it.

    Raises:
        BackendLoadFailed: the configured one is not valid Jinja.
    """
    special_texts = backend.tokenizer.special_texts
    if configured:
        try:
            return UsableTemplate(ChatTemplate(configured, special_texts), configured, "configured")
        except TemplateError as error:
            raise BackendLoadFailed(
                ErrorText("template_not_valid", detail=str(error)),
                suggestions=(ErrorText("mend_template"),),
            ) from error
    why = "has no chat template"
    if backend.template:
        try:
            own = ChatTemplate(backend.template, special_texts)
            return UsableTemplate(own, backend.template, "own")
        except TemplateError as error:
            why = f"has a chat template that is not valid Jinja ({error})"
    kind, source = default_template(backend.tokenizer.control_strings)
    instead = "ChatML" if kind == "chatml" else "a plain template"
    sys.stderr.write(f"the model {why}: {instead} is used\n")
    return UsableTemplate(ChatTemplate(source, special_texts), source, kind)


def main() -> None:
    host_engine(ChatEngine)


if __name__ == "__main__":
    main()
