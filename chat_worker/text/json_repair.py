"""Reads JSON as models write it: cut off, with raw line breaks in texts, with Python's words.

Nothing is guessed: texts, lists and objects that are open at the end of the text are closed there,
and nothing else is added. Size and depth are bounded.
"""

import json
from typing import Any

MAX_CHARS = 4 * 1024 * 1024
MAX_DEPTH = 64
WORDS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
ENDS_OF_WORD = frozenset(" \t\r\n,:]}")


class NotJson(ValueError):
    """The text is not JSON, not even with repairs."""


def arguments_of(text: str) -> dict[str, Any]:
    """The arguments of a call in the history, repaired if they are cut off or not valid.

    Text that is not an object becomes the argument `input`, so that nothing is lost.
    """
    found = repaired(text) if text.strip() else {}
    if isinstance(found, str) and found.lstrip().startswith("{"):
        # Some models write the arguments as a JSON string that contains JSON.
        found = repaired(found)
    return found if isinstance(found, dict) else {"input": found}


def repaired(text: str) -> Any:
    """The value of `text`; `text` itself if it is not JSON, even with repairs."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return read_json(text, 0)[0]
    except NotJson:
        return text


def read_json(text: str, at: int, *, may_be_cut: bool = True) -> tuple[Any, int]:
    """The value that begins at `at`, and the position at which it ends.

    Args:
        may_be_cut: a text that does not end is closed; if False, it is an error.
    Raises:
        NotJson: there is no value.
    """
    if len(text) - at > MAX_CHARS:
        raise NotJson("too long")
    reader = _Reader(text, at, may_be_cut=may_be_cut)
    value = reader.value(0)
    return value, reader.at


class _Reader:
    def __init__(self, text: str, at: int, *, may_be_cut: bool) -> None:
        self._text = text
        self._may_be_cut = may_be_cut
        self.at = at

    def value(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise NotJson("too deep")
        self._skip_space()
        match self._peek():
            case "{":
                return self._object(depth)
            case "[":
                return self._list(depth)
            case '"' | "'" as quote:
                return self._string(quote)
            case _:
                return self._word()

    def _object(self, depth: int) -> dict[str, Any]:
        self.at += 1
        found: dict[str, Any] = {}
        while self._goes_on("}"):
            key = self._string(self._peek()) if self._peek() in "\"'" else self._bare_key()
            self._skip_space()
            if self._peek() != ":":
                # The text ends within a key or before its value: the key is dropped.
                if self._peek():
                    raise NotJson("no colon after a key")
                break
            self.at += 1
            self._skip_space()
            if not self._peek():
                break
            found[key] = self.value(depth + 1)
        return found

    def _list(self, depth: int) -> list[Any]:
        self.at += 1
        found: list[Any] = []
        while self._goes_on("]"):
            found.append(self.value(depth + 1))
        return found

    def _goes_on(self, end: str) -> bool:
        """Whether another item follows; skips the comma before it, or the end."""
        self._skip_space()
        while self._peek() == ",":
            self.at += 1
            self._skip_space()
        if self._peek() == end:
            self.at += 1
            return False
        return bool(self._peek())

    def _string(self, quote: str) -> str:
        self.at += 1
        parts: list[str] = []
        while (character := self._peek()) and character != quote:
            self.at += 1
            parts.append(self._escaped() if character == "\\" else character)
        if not self._peek() and not self._may_be_cut:
            raise NotJson("a text does not end")
        self.at += 1
        return _whole_surrogates("".join(parts))

    def _escaped(self) -> str:
        character = self._peek()
        self.at += 1
        if character != "u":
            return ESCAPES.get(character, character)
        digits = self._text[self.at : self.at + 4]
        try:
            number = int(digits, 16)
        except ValueError:
            return "" if len(digits) < 4 else "u"
        self.at += 4
        return chr(number)

    def _bare_key(self) -> str:
        begin = self.at
        while (character := self._peek()) and (character.isalnum() or character in "_-"):
            self.at += 1
        if self.at == begin:
            raise NotJson("no key")
        return self._text[begin : self.at]

    def _word(self) -> Any:
        begin = self.at
        while (character := self._peek()) and character not in ENDS_OF_WORD:
            self.at += 1
        word = self._text[begin : self.at]
        if word in WORDS:
            return WORDS[word]
        try:
            return json.loads(word)
        except (ValueError, RecursionError):
            raise NotJson(f"{word[:20]!r} is no value") from None

    def _skip_space(self) -> None:
        while self._peek().isspace():
            self.at += 1

    def _peek(self) -> str:
        return self._text[self.at : self.at + 1]


def _whole_surrogates(text: str) -> str:
    """Escaped surrogate pairs become the characters they stand for, single ones a question mark."""
    if not any("\ud800" <= character <= "\udfff" for character in text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
