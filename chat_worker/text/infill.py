"""A text whose middle is missing, as the tokens of a model that was trained to fill it in.

Order of the parts: Bavarian et al. 2022, Efficient Training of Language Models to Fill in the
Middle: prefix, suffix, middle. Other files come first, as Qwen2.5-Coder and StarCoder 2 have it.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from chat_worker.pipe_messages import Infill
from chat_worker.text.truncation import FittedPrompt, PromptBounds, fit_text, fit_tokens
from chat_worker.text.window import first_window

# The suffix gets at most this share of the room: what comes before says more about the middle.
SUFFIX_SHARE = 4


@dataclass(frozen=True)
class InfillSpellings:
    """How one family of models spells the tokens that mark the parts; `file` may be empty."""

    prefix: str
    suffix: str
    middle: str
    file: str = ""


# Each is the name that the tokens have in the vocabularies of those models.
FAMILIES = (
    # Qwen2.5-Coder, CodeGemma
    InfillSpellings("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_sep|>"),
    # StarCoder, Granite
    InfillSpellings("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<file_sep>"),
    # SantaCoder
    InfillSpellings("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    # DeepSeek
    InfillSpellings("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    # CodeLlama
    InfillSpellings("▁<PRE>", "▁<SUF>", "▁<MID>"),
    # GLM
    InfillSpellings("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
)


@dataclass(frozen=True)
class InfillTokens:
    """The tokens that mark the parts; `file` is None if the model has none between files."""

    prefix: int
    suffix: int
    middle: int
    file: int | None = None


def spellings_among(texts: Collection[str]) -> InfillSpellings | None:
    """The family whose three marks are all among `texts`; None if there is none."""
    return next((f for f in FAMILIES if {f.prefix, f.suffix, f.middle} <= {*texts}), None)


def fit_infill(
    infill: Infill,
    marks: InfillTokens,
    encode: Callable[[str], list[int]],
    begin: list[int],
    bounds: PromptBounds,
) -> FittedPrompt:
    """The prompt of an infill: of what is too long, the text nearest to the gap is kept.

    Args:
        encode: the tokens of a text, in which no spelling becomes a control token.
        begin: the tokens that begin every prompt.
    Raises:
        ContextLengthExceeded: it is too long and the policy is to refuse such input.
    """
    begun = encode(infill.begun)
    room = bounds.max_tokens - len(begin) - len(begun) - 3
    suffix, n_cut = _suffix(infill.suffix, encode, room, bounds)
    left = PromptBounds(max(room - len(suffix), 1), bounds.max_chars, bounds.on_overflow)
    prefix = fit_text(infill.prefix, encode, left)
    files = list(_files(infill, marks, encode))
    spare = max(room - len(suffix) - len(prefix.tokens), 0)
    kept_files = files[max(len(files) - spare, 0) :]
    tokens = [
        *(*begin, *kept_files, marks.prefix, *prefix.tokens),
        *(marks.suffix, *suffix, marks.middle, *begun),
    ]
    trimmed = prefix.trimmed_tokens + n_cut + len(files) - len(kept_files)
    fitted = fit_tokens(tokens, bounds, len(begin))
    return FittedPrompt(fitted.tokens, fitted.trimmed_tokens + trimmed)


def _suffix(
    text: str, encode: Callable[[str], list[int]], room: int, bounds: PromptBounds
) -> tuple[list[int], int]:
    """The tokens of the suffix that are kept, and how many are not; an estimate for long texts."""
    if bounds.on_overflow == "refuse":
        return encode(text), 0
    window = text[: first_window(bounds.max_tokens)]
    tokens = encode(window)
    kept = tokens[: max(room // SUFFIX_SHARE, 0)]
    return kept, len(tokens) * len(text) // max(len(window), 1) - len(kept)


def _files(
    infill: Infill, marks: InfillTokens, encode: Callable[[str], list[int]]
) -> Iterator[int]:
    if marks.file is None:
        return
    for file in infill.files:
        yield marks.file
        yield from encode(f"{file.name}\n{file.text}")
    if infill.files:
        yield marks.file
        yield from encode("current file\n")
