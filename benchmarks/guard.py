"""What the guard costs: texts of 2 KB that break no rule, and the deltas of a stream."""

import argparse
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.report import bar, table
from gateway.guard.folding import fold
from gateway.guard.held_text import HeldText
from gateway.guard.matcher import CompiledRule, Matcher
from gateway.guard.policy import Rule, read_policy

STARTER = Path(__file__).resolve().parent.parent / "docs/examples/guard.toml"
N_WORDS = 5000
N_BYTES = 2048
ROUNDS, CALLS = 20, 50
LIMIT_US = 50.0
TEXTS = {
    "English": "The committee read the instructions again and found that nothing was left to do. ",
    "French": "Le café était très agréable, et l'été déjà là où l'on s'en va tôt. ",
    "Chinese": "資料隱私很重要！請不要把密碼（或金鑰）貼給別人：例如「範例」。Python 快了 20%，",
}


def two_kilobytes(text: str) -> str:
    return (text * 100).encode()[:N_BYTES].decode(errors="ignore")


def cpu_us(work: Callable[[], object]) -> float:
    """Microseconds of processor time of a call, in the best of some rounds: other programs on this
    machine do not count."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CALLS):
            work()
        best = min(best, time.process_time() - began)
    return best / CALLS * 1e6


def peer_finds(patterns: Sequence[re.Pattern[str]], text: str) -> bool:
    folded = fold(text)
    return any(pattern.search(folded) for pattern in patterns)


def word_rule() -> CompiledRule:
    words = tuple(f"{at * 7919 % 100_003:x}word {at}" for at in range(N_WORDS))
    return CompiledRule(Rule("words", "block", words=words))


def main(argv: list[str]) -> int:
    argparse.ArgumentParser(prog="run.py bench guard", description=__doc__).parse_args(argv)
    starter = read_policy(STARTER).rules
    compiled = [CompiledRule(rule) for rule in starter]
    guard, with_words = Matcher(compiled), Matcher([*compiled, word_rule()])
    peer = [re.compile(pattern) for rule in starter for pattern in rule.patterns]
    rows, worst = [], 0.0
    for name, text in ((name, two_kilobytes(text)) for name, text in TEXTS.items()):
        assert not with_words.find(text), "the text breaks no rule"
        figures = [
            cpu_us(partial(guard.find, text)),
            cpu_us(partial(with_words.find, text)),
            cpu_us(partial(peer_finds, peer, text)),
        ]
        worst = max(worst, *figures[:2])
        rows.append([name, *(f"{figure:.1f}" for figure in figures)])
    table(["2 KB of", "starter µs", f"and {N_WORDS} words µs", "Python's re µs"], rows)
    held = HeldText(guard, 256)
    delta = cpu_us(lambda: held.push("word "))
    table(["a delta of a stream", "µs"], [["5 characters", f"{delta:.1f}"]])
    return 0 if bar("2 KB, at worst", worst, LIMIT_US, at_most=True, unit=" µs") else 1
