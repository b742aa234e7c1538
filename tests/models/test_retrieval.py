"""The built-in embedding model finds what means the same, measured through the whole stack.

Its authors trained it on English. How it does in Traditional Chinese is shown and not demanded.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from tests.running_stack import MINILM, ROOT, RunningStack

PAIRS = ROOT / "benchmarks" / "retrieval" / "pairs.yaml"
# A kind's likeness to the text.
LIKENESS = {"same": 2, "related": 1, "unrelated": 0}
LEAST_PAIRS = 60
LEAST_SPEARMAN = 0.8
LEAST_FOUND = 0.9

Groups = list[dict[str, str]]
Vectors = NDArray[np.float64]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with RunningStack(tmp_path_factory.mktemp("stack") / "stack.log") as running:
        yield running


def groups(language: str) -> Groups:
    found: dict[str, Groups] = yaml.safe_load(Path(PAIRS).read_text(encoding="utf-8"))
    return found[language]


def embed(stack: RunningStack, texts: list[str]) -> Vectors:
    """Unit vectors."""
    with stack.openai() as client:
        reply = client.embeddings.create(model=MINILM, input=texts)
    return np.array([row.embedding for row in reply.data])


def score(stack: RunningStack, language: str) -> tuple[float, float]:
    """Spearman's correlation of cosine and likeness over all pairs, and the share of texts whose
    nearest neighbour among everything else is the one of the same meaning.
    """
    given = groups(language)
    texts = embed(stack, [group["text"] for group in given])
    others = {kind: embed(stack, [group[kind] for group in given]) for kind in LIKENESS}
    cosines = np.concatenate([(texts * vectors).sum(axis=1) for vectors in others.values()])
    likeness = np.repeat(list(LIKENESS.values()), len(given))
    nearest = (texts @ np.concatenate(list(others.values())).T).argmax(axis=1)
    found = float((nearest == np.arange(len(given))).mean())
    return spearman(cosines, likeness.astype(float)), found


def spearman(a: Vectors, b: Vectors) -> float:
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def ranks(values: Vectors) -> Vectors:
    """From the smallest; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: Vectors = (last - (counts - 1) / 2)[inverse]
    return means


def show(language: str, scores: tuple[float, float], capsys: pytest.CaptureFixture[str]) -> None:
    """Print past pytest's capture: the score belongs in every test log."""
    line = "{}, {}: Spearman {:.3f}, the same meaning found first {:.0%}"
    with capsys.disabled():
        sys.stdout.write(f"\n{line.format(MINILM, language, *scores)}\n")


def test_the_set_has_enough_pairs_and_no_text_twice() -> None:
    given = [*groups("english"), *groups("chinese")]
    assert len(given) * len(LIKENESS) >= LEAST_PAIRS
    texts = [text for group in given for text in group.values()]
    assert all(set(group) == {"text", *LIKENESS} for group in given)
    assert len(set(texts)) == len(texts)


def test_english_texts_are_nearest_to_what_means_the_same(
    stack: RunningStack, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = score(stack, "english")
    show("English", scores, capsys)
    assert scores[0] >= LEAST_SPEARMAN
    assert scores[1] >= LEAST_FOUND


def test_chinese_texts_get_a_score_that_is_shown(
    stack: RunningStack, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = score(stack, "chinese")
    show("Traditional Chinese", scores, capsys)
    assert np.isfinite(scores).all()
