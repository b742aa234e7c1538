"""When the scribe sends on what was written; the clock is the test's."""

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_worker import pipe_messages as m
from chat_worker.backend import Tokenizer
from chat_worker.backends.llama_cpp.load import load
from chat_worker.delta_pacing import N_ALONE, SHORTEST_FRAME_S
from chat_worker.engine.outputs import EngineOutput, SampledToken, SequenceAdmitted
from chat_worker.engine.sampling import Sampler, SamplingParams
from chat_worker.engine.sequence import Sequence
from chat_worker.input_processor import PreparedInput
from chat_worker.output_processor import OutputProcessor
from chat_worker.pipe_messages import LoadSpec
from chat_worker.text.reply import ReplyFormat
from chat_worker.text.truncation import FittedPrompt
from common.frames import FrameSplitter
from worker_runtime.engine_process import protocol
from worker_runtime.engine_process.host import Outbox

WITHIN_S = 10


class Written:
    """A scribe with one answer, stepped entry by entry."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.now = 0.0
        self._looked = threading.Semaphore(0)
        self._pipe = io.BytesIO()
        self._output_processor = OutputProcessor(
            Outbox(self._pipe), tokenizer, frozenset(), self._clock, lambda sequences: None
        )
        (self._token,) = tokenizer.encode("a", parse_control=False)
        sampler = Sampler(SamplingParams(temperature=0), [])
        self._sequence = Sequence(call_id=1, choice=0, tokens=[1], limit=99, sampler=sampler)
        self._output_processor.start()
        self._output_processor.open(
            1, PreparedInput([self._sequence], FittedPrompt([1]), ReplyFormat(), b"", [])
        )
        self._wait()
        self.step([SequenceAdmitted(self._sequence)])

    def token(self) -> None:
        self.step([SampledToken(self._sequence, self._token, None)])

    def step(self, reports: list[EngineOutput]) -> None:
        """Write, and wait until it was taken."""
        self._output_processor.write(reports)
        self._wait()

    @property
    def n_tokens_sent(self) -> int:
        payloads = FrameSplitter().feed(self._pipe.getvalue())
        reports = [protocol.report_decoder.decode(payload) for payload in payloads]
        events = [m.event_decoder.decode(r.body) for r in reports if isinstance(r, protocol.Event)]
        return sum(event.n_tokens for event in events if isinstance(event, m.Delta))

    def _clock(self) -> float:
        self._looked.release()
        return self.now

    def _wait(self) -> None:
        """The scribe asks for the time once for each entry, before it sends: so until it asks for
        the next one's, what is sent of this one may be missing."""
        assert self._looked.acquire(timeout=WITHIN_S)


@pytest.fixture
def answer(tiny_gguf: Path) -> Iterator[Written]:
    spec = LoadSpec(backend="llama.cpp", path=str(tiny_gguf), n_ctx=64, n_parallel=1)
    backend = load(spec, lambda fraction: None)
    written = Written(backend.tokenizer)
    for _ in range(N_ALONE):
        written.token()
    yield written
    backend.runner.close()


def test_what_is_written_within_a_frame_goes_out_with_the_first_token_after_it(
    answer: Written,
) -> None:
    answer.now = SHORTEST_FRAME_S * 0.5
    answer.token()
    answer.step([])
    assert answer.n_tokens_sent == N_ALONE
    answer.now = SHORTEST_FRAME_S * 1.5
    answer.token()
    answer.step([])
    assert answer.n_tokens_sent == N_ALONE + 2


def test_a_step_with_nothing_to_send_does_not_hold_back_the_next_token(answer: Written) -> None:
    answer.now = SHORTEST_FRAME_S * 2
    answer.step([])
    answer.now += SHORTEST_FRAME_S / 10
    answer.token()
    answer.step([])
    assert answer.n_tokens_sent == N_ALONE + 1
