"""How fast the two backends are that can run one model, remembered in a small file.

All workers of a user share the file, with an entry for each model and processor.
"""

import contextlib
import hashlib
import logging
from pathlib import Path

import filelock
import msgspec

from chat_worker.pipe_messages import spec_decoder
from common.atomic_file import replace_file
from common.packages import version_of
from worker_runtime.catalog import ModelEntry
from worker_runtime.machine.processor import read_processor

FILE = "backends.json"
MAX_KNOWN = 256
MAX_FILE_BYTES = 256 * 1024
LOCK_S = 0.2
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
        self._file = file
        self._lock = filelock.FileLock(file.with_suffix(".lock"))

    def of(self, entry: ModelEntry) -> Comparison | None:
        """What is known of a model on the backend that its format is for; None: nothing yet."""
        return self._read().get(_key(entry))

    def note(self, entry: ModelEntry, found: Comparison) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._lock.acquire(timeout=LOCK_S, poll_interval=0.01):
                every = self._read()
                every.pop(_key(entry), None)
                kept = [*every.items(), (_key(entry), found)][-MAX_KNOWN:]
                with contextlib.suppress(PermissionError):
                    # On Windows this fails while another process reads the file; then the model
                    # is measured again.
                    replace_file(self._file, msgspec.json.encode(dict(kept)))
        except (OSError, filelock.Timeout) as failure:
            log.warning("the speeds of model %s were not saved: %s", entry.id, failure)

    def _read(self) -> dict[str, Comparison]:
        try:
            with self._file.open("rb") as file:
                return msgspec.json.decode(file.read(MAX_FILE_BYTES), type=dict[str, Comparison])
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            # The file is missing or not in our format; the next comparison writes a new one.
            return {}


def _key(entry: ModelEntry) -> str:
    """A hash of the model's files, of both libraries and their settings, and of the processor."""
    spec = spec_decoder.decode(entry.load_spec)
    openvino = (spec.precision, spec.weight_bits, spec.device)
    settings = (spec.kv_type, spec.torch_dtype, spec.quantization, *openvino)
    facts = (entry.fingerprint, version_of("openvino"), settings, read_processor())
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
