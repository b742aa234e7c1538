"""Rules on JSON: strings as they are decoded, and JSON that stays JSON."""

import json

from gateway.guard.json_texts import checked_json
from gateway.guard.matcher import CompiledRule, Matcher
from gateway.guard.policy import Rule

WORDS = ("獵鷹", 'say "hi"')
MATCHER = Matcher(
    [CompiledRule(Rule("it", "redact", words=WORDS, patterns=(r"\d{6}",), replacement="*"))]
)


def test_strings_are_read_as_they_are_decoded() -> None:
    text, matches = checked_json(
        r'{"a": "\u7375\u9df9!", "b": ["say \"hi\" ", "\\", "c"]}', MATCHER
    )
    assert json.loads(text) == {"a": "*!", "b": ["* ", "\\", "c"]}
    assert len(matches) == 2


def test_a_redacted_number_becomes_a_string() -> None:
    text, _ = checked_json('{"n": 123456, "m": 1, "s": "123456"}', MATCHER)
    assert json.loads(text) == {"n": "*", "m": 1, "s": "*"}


def test_what_breaks_no_rule_stays_as_it_is_written_and_so_does_what_is_cut_off() -> None:
    plain = '{ "a" : 1.50, "b": "\\u00e9" }'
    assert checked_json(plain, MATCHER) == (plain, [])
    assert checked_json('{"a": "12345', MATCHER) == ('{"a": "12345', [])
    assert checked_json('{"a": "123456', MATCHER)[0] == '{"a": ""*"'


def test_deep_and_long_json_is_read_in_a_pass() -> None:
    text = "[" * 100_000 + '"123456"' + "]" * 100_000
    assert checked_json(text, MATCHER)[0] == text.replace("123456", "*")
