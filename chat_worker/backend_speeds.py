"""How fast the two backends are that can run one model, remembered in a small file.

All workers of a user share the file, with an entry for each model and processor.
"""

import hashlib
import logging
from pathlib import Path

import filelock
import msgspec

from chat_worker.pipe_messages import spec_decoder
from common.packages import version_of
from worker_runtime.catalog import ModelEntry
from worker_runtime.learnt_table import LearntTable
from worker_runtime.machine.processor import read_processor

FILE = "backends.json"
MAX_KNOWN = 256
MAX_FILE_BYTES = 256 * 1024
# A request whose time is compared: an agent's turn, most of which the prefix cache holds.
PROMPT_TOKENS, ANSWER_TOKENS = 600, 120
# OpenVINO is used if such a request takes at most this share of the other backend's time: its
# converted form takes disk space.
LEAST_GAIN = 0.9

log = logging.getLogger(__name__)


class Speeds(msgspec.Struct, frozen=True):
    """Tokens per second of one request alone, and the memory that the process took."""

    prompt: float
    answer: float
    memory_bytes: int

    @property
    def request_s(self) -> float:
        return PROMPT_TOKENS / self.prompt + ANSWER_TOKENS / self.answer


class Comparison(msgspec.Struct, frozen=True):
    """What was measured of one model.

    Args:
        backend: the one that the format of the model is for.
        openvino: None if it does not run there, with the reason in `refusal`.
    """

    backend: str
    own: Speeds
    openvino: Speeds | None = None
    refusal: str = ""

    @property
    def prefers_openvino(self) -> bool:
        found = self.openvino
        return found is not None and found.request_s <= LEAST_GAIN * self.own.request_s

    @property
    def text(self) -> str:
        """The result in one line."""
        if self.openvino is None:
            return f"it does not run on OpenVINO: {self.refusal}"
        figures = " and ".join(
            f"{theirs:.0f} {what} tokens/s ({theirs / ours:.1f} times {self.backend}'s)"
            for what, theirs, ours in (
                ("prompt", self.openvino.prompt, self.own.prompt),
                ("answer", self.openvino.answer, self.own.answer),
            )
        )
        return f"OpenVINO was measured here: {figures}, {self.openvino.memory_bytes >> 20} MiB"


class BackendSpeeds:
    """Reads and writes the file, which is created with the first comparison."""

    def __init__(self, file: Path) -> None:
        self._table = LearntTable(
            file, dict[str, Comparison], max_entries=MAX_KNOWN, max_bytes=MAX_FILE_BYTES
        )

    def of(self, entry: ModelEntry) -> Comparison | None:
        """What is known of a model on the backend that its format is for; None: nothing yet."""
        return self._table.read().get(_key(entry))

    def note(self, entry: ModelEntry, found: Comparison) -> None:
        try:
            self._table.put(_key(entry), found)
        except (OSError, filelock.Timeout) as failure:
            log.warning("the speeds of model %s were not saved: %s", entry.id, failure)


def _key(entry: ModelEntry) -> str:
    """A hash of the model's files, of both libraries and their settings, and of the processor."""
    spec = spec_decoder.decode(entry.load_spec)
    openvino = (spec.precision, spec.weight_bits, spec.device)
    attention = (spec.kv_type, spec.flash_attention)
    settings = (*attention, spec.torch_dtype, spec.quantization, *openvino)
    facts = (entry.fingerprint, version_of("openvino"), settings, read_processor())
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
