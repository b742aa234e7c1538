"""A `tokenizer.json` as our `Tokenizer`: exact bytes of tokens, control tokens kept separate.

Tokens are spelled in one of two ways: byte-level, where each character stands for a byte (GPT-2,
Qwen, Llama 3), or like SentencePiece, with ▁ for a space and <0xNN> for single bytes (Llama 2,
Gemma).
"""

import re
import threading
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer

from chat_worker.backends.transformers import USE_GGUF
from chat_worker.text.infill import InfillTokens, spellings_among
from common.error_texts import ErrorText
from common.errors import BackendLoadFailed, InvalidRequest

MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_TEXT_BYTES = 16 * 1024 * 1024
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class _AddedToken(msgspec.Struct):
    id: int
    content: str
    special: bool = False


class _Decoder(msgspec.Struct):
    type: str = ""
    decoders: list["_Decoder"] = []


class _Source(msgspec.Struct):
    """The parts of a `tokenizer.json` that this module reads itself."""

    added_tokens: list[_AddedToken] = []
    decoder: _Decoder | None = None


class HuggingFaceTokenizer:
    """Encodes and decodes with a folder's tokenizer.

    Args:
        config: the contents of `tokenizer_config.json`.
        end_tokens: ids from the model's configuration; the tokenizer's own is added.
        n_vocab: the size of the model's vocabulary; the tokenizer may have fewer tokens.
    """

    def __init__(
        self, folder: Path, config: dict[str, Any], end_tokens: frozenset[int], n_vocab: int
    ) -> None:
        self.n_vocab = n_vocab
        self._config = config
        self._tokenizer, source = _read_tokenizer(folder)
        self._is_byte_level = _is_byte_level(source.decoder)
        self._added = {token.id: token.content.encode() for token in source.added_tokens}
        self._controls = {t.id: t.content for t in source.added_tokens if t.special}
        own_end = self._id(self.special_texts["eos_token"])
        self.end_tokens = end_tokens | ({own_end} if own_end is not None else frozenset())
        self._pieces: dict[int, bytes] = {}
        # The library's tokenizer has a mode for control tokens, which is set before each text.
        self._encoding = threading.Lock()

    @cached_property
    def prefix(self) -> list[int]:
        wanted = self._config.get("add_bos_token")
        bos = self._id(self.special_texts["bos_token"])
        if wanted is not None and bos is not None:
            return [bos] if wanted else []
        bare = self._tokenizer.encode("a", add_special_tokens=False).ids
        whole: list[int] = self._tokenizer.encode("a").ids
        n_before = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
        return whole[:n_before]

    @cached_property
    def control_strings(self) -> list[str]:
        return list(self._controls.values())

    @cached_property
    def special_texts(self) -> dict[str, str]:
        return {name: _text(self._config.get(name)) for name in ("bos_token", "eos_token")}

    @cached_property
    def infill(self) -> InfillTokens | None:
        found = spellings_among([content.decode() for content in self._added.values()])
        if found is None:
            return None
        ids = {content.decode(): token for token, content in self._added.items()}
        return InfillTokens(
            ids[found.prefix], ids[found.suffix], ids[found.middle], ids.get(found.file)
        )

    def encode(self, text: str, *, parse_control: bool) -> list[int]:
        if len(text.encode("utf-8")) > MAX_TEXT_BYTES:
            raise InvalidRequest(ErrorText("text_too_long"))
        with self._encoding:
            self._tokenizer.encode_special_tokens = not parse_control
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        if ids and max(ids) >= self.n_vocab:
            raise InvalidRequest(ErrorText("token_unknown"))
        return ids

    def piece(self, token: int, *, show_control: bool = False) -> bytes:
        if token in self._controls and not show_control:
            return b""
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._spelled(token)
        return known

    def _spelled(self, token: int) -> bytes:
        if token in self._added:
            return self._added[token]
        spelling = self._tokenizer.id_to_token(token)
        if spelling is None:
            return b""
        if self._is_byte_level:
            return b"".join(BYTES.get(character, character.encode()) for character in spelling)
        byte = _BYTE.fullmatch(spelling)
        return bytes([int(byte[1], 16)]) if byte else spelling.replace("▁", " ").encode()

    def _id(self, text: str) -> int | None:
        return self._tokenizer.token_to_id(text) if text else None


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a model's folder; empty if there is no such file.

    Raises:
        BackendLoadFailed: the file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        return msgspec.json.decode(_read(path), type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise _damaged(path) from error


def end_tokens(folder: Path, stated: Any) -> frozenset[int]:
    """The ids that end a generation: `stated` in the model's configuration, one or several, and
    those of `generation_config.json`."""
    found: set[int] = set()
    for named in (read_object(folder / "generation_config.json").get("eos_token_id"), stated):
        found.update(named if isinstance(named, list) else [named] if named is not None else [])
    return frozenset(found)


def chat_template(folder: Path, config: dict[str, Any]) -> str | None:
    """The model's own template: a file, or a part of the tokenizer's configuration."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text("utf-8", "replace")
    match config.get("chat_template"):
        case str(template):
            return template
        case list(named):
            by_name = {t.get("name"): t.get("template") for t in named if isinstance(t, dict)}
            # Some models name their template after its purpose: "tool_use" takes plain chats too.
            return by_name.get("default") or by_name.get("tool_use")
        case _:
            return None


def _read_tokenizer(folder: Path) -> tuple[Tokenizer, _Source]:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise BackendLoadFailed(
            ErrorText("folder_without_tokenizer"),
            suggestions=(ErrorText("save_tokenizer"), USE_GGUF),
        )
    content = _read(path)
    try:
        source = msgspec.json.decode(content, type=_Source)
        tokenizer = Tokenizer.from_buffer(content)
    except (ValueError, RecursionError) as error:
        raise _damaged(path) from error
    # It may have been saved with the settings of its training.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, source


def _is_byte_level(decoder: _Decoder | None) -> bool:
    """Whether tokens are spelled byte by byte.

    Raises:
        BackendLoadFailed: tokens are spelled in neither of the two known ways.
    """
    kinds = {part.type for part in [decoder, *decoder.decoders]} if decoder else set()
    if "ByteLevel" in kinds:
        return True
    if kinds & {"Metaspace", "ByteFallback", "Replace"}:
        return False
    raise BackendLoadFailed(ErrorText("tokenizer_unknown"), suggestions=(USE_GGUF,))


def _read(path: Path) -> bytes:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise BackendLoadFailed(ErrorText("file_too_large", file=path.name))
    return path.read_bytes()


def _damaged(path: Path) -> BackendLoadFailed:
    return BackendLoadFailed(
        ErrorText("file_damaged", file=path.name),
        suggestions=(ErrorText("download_file"), USE_GGUF),
    )


def _text(token: object) -> str:
    """The text of a token in `tokenizer_config.json`, which may be an object with that text."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""


def _byte_characters() -> dict[str, int]:
    """GPT-2's spelling of bytes: printable bytes as themselves, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    named = {chr(byte): byte for byte in printable}
    return named | {chr(0x100 + i): byte for i, byte in enumerate(rest)}


BYTES = {character: bytes([byte]) for character, byte in _byte_characters().items()}
