"""Which language a client is told of errors in, and that each has all that is said."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from common import errors
from common.error_texts import ENGLISH, ErrorText, fields_of
from gateway import localize
from gateway.localize import Language, languages
from gateway.middleware.language import accepted
from gateway.settings import GatewaySettings
from worker_runtime.engine_process.load_errors import out_of_memory, with_arithmetic
from worker_runtime.memory.budget import Claim, MemoryBudget
from worker_runtime.memory.insufficient import Holder, insufficient_memory

CHINESE = languages()["zh-TW"]
LANGUAGES = [language for tag, language in languages().items() if tag != "en"]
MIB = 1 << 20
TOY = """
TAG = "x-toy"
READERS = ("x-toy",)
CODES = {"worker_lost": "Oje: {text}"}
MESSAGES = {"model_not_found": "Nix {model}", "load_failed": "Kaputt: {why}", "add_model": "Rein"}
"""


@pytest.mark.parametrize(
    ("accept_language", "language"),
    [
        ("", "en"),
        ("zh-TW", "zh-TW"),
        ("ZH-tw", "zh-TW"),
        ("zh-Hant", "zh-TW"),
        ("zh-Hant-TW", "zh-TW"),
        ("zh-HK,en;q=0.9", "zh-TW"),
        ("zh", "zh-TW"),
        ("zh-TW,zh;q=0.9,en-US;q=0.8,en;q=0.7", "zh-TW"),
        ("en-US,en;q=0.9,zh-TW;q=0.8", "en"),
        ("fr, zh-TW;q=0.2", "zh-TW"),
        ("en;q=0.5, zh-TW;q=0.6", "zh-TW"),
        ("zh-TW;q=0, en", "en"),
        ("zh-TW;q=0", "en"),
        ("zh-CN", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "en"),
        ("zh-CN,zh;q=0.9", "zh-TW"),
        ("zh-Hans-CN", "en"),
        ("*", "en"),
        ("zh-TW;q=nan,en;q=1", "en"),
        ("zh-TW;level=1", "en"),
        ("zhx,enx", "en"),
        (";;;,,,=", "en"),
    ],
)
def test_the_most_wanted_language_that_there_is_is_spoken(
    accept_language: str, language: str
) -> None:
    assert accepted(accept_language).tag == language


@given(st.text(alphabet="zh-TWen;q=01.,* ²", max_size=40))
def test_any_header_is_understood_somehow(accept_language: str) -> None:
    assert accepted(accept_language).tag in languages()


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.tag)
def test_each_language_says_all_that_is_said_with_the_same_fields(language: Language) -> None:
    assert language.messages.keys() ^ ENGLISH.keys() == set()
    differ = [
        id for id, said in language.messages.items() if fields_of(said) != fields_of(ENGLISH[id])
    ]
    assert differ == []
    assert {kind.code for kind in errors.error_types()} - language.codes.keys() == set()
    assert all(fields_of(around) == {"text"} for around in language.codes.values())


def test_a_lack_of_memory_keeps_the_message_that_users_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    error = out_of_memory("transformers", "page_file")
    assert CHINESE.message(error) == "模型/後端載入失敗 (內存或分頁檔不足)"
    assert CHINESE.text(error.suggestions[0]) == "增大 Pagefile 至 >=16GB"


def test_the_numbers_of_a_lack_of_memory_are_told() -> None:
    holders = [Holder("a", MIB, pinned=True), Holder("b", 0)]
    error = with_arithmetic(out_of_memory("llama.cpp"), 2000 * MIB, 900 * MIB, holders)
    assert CHINESE.message(error) == (
        "模型/後端載入失敗 (內存或分頁檔不足)：需要約 2,000 MiB，可用 900 MiB；"
        "已載入的模型：a (1 MiB), b (0 MiB)"
    )


def test_a_refusal_says_why_with_its_numbers() -> None:
    room = MemoryBudget(900 * MIB, 512 * MIB, None, (Claim(MIB),))
    pinned = insufficient_memory(
        room, [2000 * MIB, 1500 * MIB], [Holder("a", MIB, pinned=True)], "chat"
    )
    assert CHINESE.message(pinned) == (
        "模型/後端載入失敗 (內存或分頁檔不足)，空間由已釘選的模型佔用 (a)："
        "需要約 2,000 MiB，最少 1,500 MiB；已載入的模型：a (1 MiB)"
    )
    assert CHINESE.text(pinned.suggestions[0]) == "卸載 a：POST /v1/models/unload"


def test_the_words_of_others_stay_as_they_are() -> None:
    error = errors.InvalidRequest("messages[0].role: no", suggestions=("mend it",))
    assert CHINESE.message(error) == "請求內容有誤：messages[0].role: no"
    assert CHINESE.text(error.suggestions[0]) == "mend it"
    assert localize.ENGLISH.message(error) == "messages[0].role: no"


@pytest.mark.parametrize("name", ["answers", "downloads", "requests", "service", "suggestions"])
def test_a_translation_lists_what_its_english_file_lists_in_the_same_order(name: str) -> None:
    english = importlib.import_module(f"common.error_texts.en_{name}").MESSAGES
    chinese = importlib.import_module(f"gateway.localize.zh_tw.{name}").MESSAGES
    assert list(chinese) == list(english)


@pytest.fixture
def with_toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "toy.py").write_text(TOY, encoding="utf-8")
    monkeypatch.setattr(localize, "__path__", [*localize.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    languages.cache_clear()
    yield
    languages.cache_clear()


@pytest.mark.usefixtures("with_toy")
def test_another_language_is_one_file() -> None:
    toy = accepted("x-toy, en;q=0.5")
    assert toy.tag == "x-toy"
    missing = errors.ModelNotFound(
        ErrorText("model_not_found", model="a"), suggestions=(ErrorText("add_model"),)
    )
    assert (toy.message(missing), toy.text(missing.suggestions[0])) == ("Nix a", "Rein")
    nested = ErrorText("load_failed", why=ErrorText("model_not_found", model="b"))
    assert toy.message(errors.BackendLoadFailed(nested)) == "Kaputt: Nix b"
    assert toy.message(errors.WorkerLost("gone")) == "Oje: gone"
    assert toy.text(ErrorText("input_empty")) == "the input is empty"


def test_a_server_can_be_set_to_a_language_that_there_is() -> None:
    assert GatewaySettings(error_language="zh-TW").error_language == "zh-TW"
    with pytest.raises(ValidationError, match="auto, en, zh-TW"):
        GatewaySettings(error_language="xx")
