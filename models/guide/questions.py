"""The guide's questions: expanded from the data files, varied for training, or kept out of it."""

import functools
import itertools
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DATA = Path(__file__).parent / "data"
LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Question:
    """One question, the language it is in, its topic's id, and the one right answer."""

    text: str
    language: str
    topic: str
    answer: str


def _read(name: str) -> Any:
    return yaml.safe_load((DATA / name).read_text(encoding="utf-8"))


def about_y26hkx() -> list[Question]:
    """Every training question about the product: written ones first, then filled templates."""
    return [*written(), *filled()]


def written() -> list[Question]:
    """Questions that were written as a whole."""
    more = _read("more.yaml")
    return _questions(
        lambda topic, language: [*topic[language]["ask"], *more[topic["id"]][language]]
    )


def filled() -> list[Question]:
    """Questions made of a topic's phrases and the templates."""
    templates = _read("templates.yaml")

    def fill(topic: dict[str, Any], language: str) -> list[str]:
        return [
            template.format(p=phrase)
            for kind in ("do", "about")
            for phrase, template in itertools.product(
                topic[language].get(kind, ()), templates[language][kind]
            )
        ]

    return _questions(fill)


def _questions(ask: Callable[[dict[str, Any], str], list[str]]) -> list[Question]:
    """Without repeats, held-out ones, and Chinese ones that have no Chinese word in them: the
    answer to those is in English."""
    held_out = {plain(question.text) for question in kept_out()}
    return [
        Question(text, language, topic["id"], topic[language]["answer"])
        for topic in _read("topics.yaml")
        for language in LANGUAGES
        for text in dict.fromkeys(ask(topic, language))
        if plain(text) not in held_out and (language == "en" or not text.isascii())
    ]


def off_topic(language: str, random_: random.Random) -> Question:
    """One question about anything else, with its slots filled by chance."""
    other = _read_other()
    spoken = other[language]
    if random_.random() < 0.4:
        text = random_.choice(spoken["plain"])
    else:
        slots = {name: random_.choice(words) for name, words in other["slots"][language].items()}
        numbers = {"a": random_.randint(1, 999), "b": random_.randint(1, 99)}
        text = random_.choice(spoken["patterns"]).format(**slots, **numbers)
    return Question(text, language, "other", spoken["answer"])


def off_topic_plain() -> list[Question]:
    other = _read_other()
    return [
        Question(text, language, "other", other[language]["answer"])
        for language in LANGUAGES
        for text in other[language]["plain"]
    ]


@functools.cache
def _read_other() -> dict[str, Any]:
    other: dict[str, Any] = _read("other.yaml")
    for language, texts in _read("more.yaml")["other"].items():
        other[language]["plain"] += texts
    return other


def kept_out() -> list[Question]:
    """The paraphrases that are never trained on."""
    topics = [*_read("topics.yaml"), {"id": "other"} | _read_other()]
    beside = [
        Question(text, language, topic["id"], topic[language]["answer"])
        for topic in topics
        for language in LANGUAGES
        for text in topic[language]["held_out"]
    ]
    return [*beside, *kept_out_independently()]


def kept_out_independently() -> list[Question]:
    """The part of them that was written without sight of the training questions, and unseen."""
    paraphrases = _read("held_out.yaml")
    topics = [*_read("topics.yaml"), {"id": "other"} | _read_other()]
    return [
        Question(text, language, topic["id"], topic[language]["answer"])
        for topic in topics
        for language in LANGUAGES
        for text in paraphrases.get(topic["id"], {}).get(language, ())
    ]


def system_prompts() -> list[str]:
    prompts: list[str] = _read("templates.yaml")["system"]
    return prompts


def plain(text: str) -> str:
    """`text` without case, punctuation and spaces, to find repeats."""
    return re.sub(r"[\W_]+", "", text.lower())


class Variation:
    """Varies questions as people do: greetings, case, punctuation, typing errors, lost words."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._templates = _read("templates.yaml")
        self._synonyms = _read("synonyms.yaml")
        self._held_out = {plain(question.text) for question in kept_out()}

    def vary(self, question: Question) -> str:
        """A variant that is not one of the held-out questions."""
        for _ in range(10):
            text = self._once(question.text, question.language)
            if plain(text) not in self._held_out:
                return text
        return question.text

    def _once(self, text: str, language: str) -> str:
        chance = self._random.random
        words = self._templates[language]
        if chance() < 0.5:
            text = self._reword(text, language)
        if chance() < 0.2:
            text = text.rstrip("?？.。!！")
        if chance() < 0.15:
            text = self._random.choice(words["before"]) + text
        if chance() < 0.15:
            text = text.rstrip("?？.。!！") + self._random.choice(words["after"])
        if chance() < 0.25:
            text = text.lower()
        if chance() < 0.05:
            text = text.upper()
        while chance() < 0.25:
            text = self._lose_word(text, language)
        if chance() < 0.12:
            text = self._mistype(text)
        return text

    def _reword(self, text: str, language: str) -> str:
        """Each word that has synonyms is replaced by one of them, or stays."""
        for word, others in self._synonyms[language].items():
            if word in text.lower() and self._random.random() < 0.5:
                pattern = rf"\b{word}\b" if language == "en" else re.escape(word)
                other = self._random.choice(others)
                text = re.sub(pattern, other, text, count=1, flags=re.IGNORECASE)
        return text

    def _lose_word(self, text: str, language: str) -> str:
        words = text.split(" ") if language == "en" else list(text)
        if len(words) < 5:
            return text
        del words[self._random.randrange(len(words))]
        return (" " if language == "en" else "").join(words)

    def _mistype(self, text: str) -> str:
        if len(text) < 8:
            return text
        at = self._random.randrange(1, len(text) - 2)
        swapped = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        return swapped if self._random.random() < 0.5 else text[:at] + text[at + 1 :]


def all_texts() -> Iterator[str]:
    """What the tokenizer learns from: training questions and answers, no held-out ones."""
    for question in itertools.chain(about_y26hkx(), off_topic_plain()):
        yield question.text
        yield question.answer
    random_ = random.Random(0)
    for language in LANGUAGES:
        for _ in range(1500):
            yield off_topic(language, random_).text
    yield from system_prompts()
