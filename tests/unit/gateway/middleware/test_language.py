"""Which language a client is told of errors in, and that everything has its translation."""

import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import errors
from gateway.localize import zh_tw
from gateway.localize.localize import localized, localized_suggestion
from gateway.middleware.language import LANGUAGES, accepted
from tests.unit.gateway.texts_in_code import reasons, suggestions
from worker_runtime.engine_process.load_errors import out_of_memory
from worker_runtime.memory.oom_signs import Shortage

CHINESE = re.compile(r"[\u4e00-\u9fff]")


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
    assert accepted(accept_language) == language


@given(st.text(alphabet="zh-TWen;q=01.,* ²", max_size=40))
def test_any_header_is_understood_somehow(accept_language: str) -> None:
    assert accepted(accept_language) in LANGUAGES


def test_every_way_out_in_the_code_has_a_translation() -> None:
    found = suggestions()
    assert len(found) > 50, "the reader of the code still finds them"
    assert [text for text in sorted(found) if not CHINESE.search(localized_suggestion(text))] == []


def test_every_reason_and_code_has_a_translation() -> None:
    known = reasons() | {*get_args(Shortage)}
    assert known >= {"over_limit", "machine_memory", "held_by_pins"}
    assert known - zh_tw.REASONS.keys() == set()
    codes = {error_type.code for error_type in errors.error_types()}
    assert codes - zh_tw.CODES.keys() == set()


def test_no_translation_is_of_a_text_that_is_nowhere_said() -> None:
    texts = suggestions()
    patterns = {
        english: re.compile(re.escape(english).replace(r"\{\}", ".+"))
        for english in zh_tw.SUGGESTIONS
    }
    stale = [e for e, pattern in patterns.items() if not any(map(pattern.fullmatch, texts))]
    assert stale == []


def test_a_lack_of_memory_keeps_the_message_that_users_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    said = localized(out_of_memory("transformers", "page_file"), "zh-TW")
    assert said.message == "模型/後端載入失敗 (內存或分頁檔不足)"
    assert said.suggestions[0] == "增大 Pagefile 至 >=16GB"


def test_the_numbers_of_a_lack_of_memory_are_told() -> None:
    facts = {
        "cause": "memory",
        "reason": "held_by_pins",
        "needed_bytes": str(2000 << 20),
        "available_bytes": str(900 << 20),
        "headroom_bytes": "no number",
        "holds": '[{"model":"a","bytes":1048576,"pinned":true},{"model":"b","bytes":0}]',
    }
    error = errors.BackendLoadFailed("it does not fit", metadata=facts)
    assert localized(error, "zh-TW").message == (
        "模型/後端載入失敗 (內存或分頁檔不足)，空間由已釘選的模型佔用："
        "需要約 2,000 MiB，可用 900 MiB，已載入的模型：a (1 MiB，已釘選)、b (0 MiB)"
    )


def test_what_is_unknown_stays_as_it_is() -> None:
    error = errors.InvalidRequest("messages[0].role: no", suggestions=("mend it",))
    assert localized(error, "zh-TW") == ("請求內容有誤：messages[0].role: no", ("mend it",))
    assert localized(error, "en") == ("messages[0].role: no", ("mend it",))
