"""Runs a classifier: `python -m gateway.guard.classifier_process NAME`.

Reads lines of JSON: the options, then one request after the other, {"id": 1, "texts": ["…"]}.
Writes {"id": 0} when the classifier is loaded, then {"id": 1, "scores": [0.5]} or, if it failed,
{"id": 1, "failed": "ValueError"}. It ends with its stdin.
"""

import math
import os
import sys
import traceback
from typing import BinaryIO

import msgspec
import orjson

from gateway.guard.classifier import Classifier, installed_classifiers


def main() -> None:
    # What a library prints must not get among the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    lines = sys.stdin.buffer
    options = orjson.loads(lines.readline())
    classifier = installed_classifiers()[sys.argv[1]].load().load(**options)
    if not isinstance(classifier, Classifier):
        raise TypeError(f"{sys.argv[1]} has not the methods of a classifier")
    _write(answers, {"id": 0})
    while line := lines.readline():
        asked = orjson.loads(line)
        _write(answers, {"id": asked["id"]} | _scored(classifier, asked["texts"]))


def _scored(classifier: Classifier, texts: list[str]) -> dict[str, object]:
    try:
        scores = msgspec.convert(classifier.score(texts), list[float])
        if len(scores) != len(texts) or not all(map(math.isfinite, scores)):
            raise ValueError("not one number for each text")
        return {"scores": scores}
    except Exception as error:  # noqa: BLE001 - third-party code: other texts must be scored
        traceback.print_exc(file=sys.stderr)
        return {"failed": type(error).__name__}


def _write(answers: BinaryIO, answer: dict[str, object]) -> None:
    answers.write(orjson.dumps(answer) + b"\n")
    answers.flush()


if __name__ == "__main__":
    main()
