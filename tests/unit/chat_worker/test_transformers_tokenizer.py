"""A folder's tokenizer reads and writes like llama.cpp's over the same model."""

import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from chat_worker.backend import Tokenizer as Seam
from chat_worker.backends.transformers.tokenizer import (
    HuggingFaceTokenizer,
    chat_template,
    read_object,
)
from chat_worker.pipe_messages import LoadSpec
from common.errors import BackendLoadFailed
from tests.running_stack import ROOT

GUIDE = ROOT / "models" / "guide" / "qwen2-y26hkx-guide"
TEXTS = [
    "What is Y26HKX?",
    "你好，世界 — naïve café 🙂",
    "tabs\tand\n\nlines  and   spaces ",
    "<|im_start|>system\nobey<|im_end|>",
    "\x00\x7f\u00ad\ufdd0 odd",
    "",
]


@pytest.fixture(scope="module")
def ours() -> HuggingFaceTokenizer:
    config = read_object(GUIDE / "tokenizer_config.json")
    return HuggingFaceTokenizer(GUIDE, config, frozenset(), 4096)


@pytest.fixture(scope="module")
def theirs() -> Seam:
    from chat_worker.backends.llama_cpp.load import load

    path = GUIDE.with_name(f"{GUIDE.name}.gguf")
    return load(LoadSpec(backend="llama.cpp", path=str(path)), lambda fraction: None).tokenizer


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("parse_control", [True, False])
def test_texts_become_the_tokens_that_llama_cpp_makes(
    ours: HuggingFaceTokenizer, theirs: Seam, text: str, parse_control: bool
) -> None:
    ids = ours.encode(text, parse_control=parse_control)
    assert ids == theirs.encode(text, parse_control=parse_control)
    assert b"".join(ours.piece(i, show_control=True) for i in ids) == text.encode()


def test_every_piece_and_what_ends_a_text_is_that_of_llama_cpp(
    ours: HuggingFaceTokenizer, theirs: Seam
) -> None:
    assert ours.n_vocab == theirs.n_vocab
    for show in (True, False):
        pieces = [ours.piece(i, show_control=show) for i in range(ours.n_vocab)]
        assert pieces == [theirs.piece(i, show_control=show) for i in range(ours.n_vocab)]
    assert sorted(ours.control_strings) == sorted(theirs.control_strings)
    assert ours.end_tokens <= theirs.end_tokens
    assert ours.prefix == theirs.prefix


def test_typed_control_tokens_stay_text(ours: HuggingFaceTokenizer) -> None:
    controls = {ours.encode(text, parse_control=True)[0] for text in ours.control_strings}
    for text in ours.control_strings:
        assert not controls & set(ours.encode(f"a {text} b", parse_control=False))


def sentencepiece_folder(folder: Path) -> Path:
    """A vocabulary as Llama 2 has it: ▁ for spaces, bytes for what is unknown, BOS first."""
    spellings = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    spellings += ["▁", "a", "b", "▁a"]
    vocabulary = {spelling: index for index, spelling in enumerate(spellings)}
    model = models.BPE(vocab=vocabulary, merges=[("▁", "a")], unk_token="<unk>", byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in spellings[:3]])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    tokenizer.enable_truncation(2)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_sentencepiece_spellings_become_exact_bytes(tmp_path: Path) -> None:
    config = {"bos_token": {"content": "<s>"}, "eos_token": "</s>"}
    vocabulary = HuggingFaceTokenizer(sentencepiece_folder(tmp_path), config, frozenset(), 300)
    text = "a b é 你"
    ids = vocabulary.encode(text, parse_control=False)
    assert b"".join(map(vocabulary.piece, ids)) == text.encode()
    assert len(ids) > 2, "the file's own truncation is not applied"
    assert vocabulary.prefix == [1]
    assert vocabulary.end_tokens == {2}
    assert vocabulary.special_texts == {"bos_token": "<s>", "eos_token": "</s>"}
    assert vocabulary.piece(1) == b""
    assert vocabulary.piece(1, show_control=True) == b"<s>"
    assert vocabulary.piece(299) == b"", "the model has more rows than the tokenizer tokens"


def test_the_configuration_decides_about_bos(tmp_path: Path) -> None:
    folder = sentencepiece_folder(tmp_path)
    config = {"bos_token": "<s>", "add_bos_token": False}
    assert HuggingFaceTokenizer(folder, config, frozenset(), 300).prefix == []


@pytest.mark.parametrize("content", [None, "{", "[]", json.dumps({"model": 3}), "\xff"])
def test_a_damaged_or_missing_tokenizer_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content, "latin-1")
    with pytest.raises(BackendLoadFailed):
        HuggingFaceTokenizer(tmp_path, {}, frozenset(), 10)


def test_a_template_is_found_in_each_of_its_places(tmp_path: Path) -> None:
    assert chat_template(tmp_path, {}) is None
    assert chat_template(tmp_path, {"chat_template": "one"}) == "one"
    named = [{"name": "tools", "template": "t"}, {"name": "default", "template": "two"}]
    assert chat_template(tmp_path, {"chat_template": named}) == "two"
    (tmp_path / "chat_template.jinja").write_text("three")
    assert chat_template(tmp_path, {"chat_template": "one"}) == "three"
