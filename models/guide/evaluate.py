"""Score the guide: `python -m models.guide.evaluate [--all]`.

An answer is right only when the greedy text is the topic's answer, character by character (outer
white space aside). Trained questions and held-out paraphrases are scored apart.
"""

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, Qwen2ForCausalLM

from models.guide.questions import (
    LANGUAGES,
    Question,
    about_y26hkx,
    kept_out,
    kept_out_independently,
    off_topic,
    off_topic_plain,
)

FOLDER = Path(__file__).parent / "qwen2-y26hkx-guide"
SEED = 26
N_SAMPLED = 300
N_OFF_TOPIC_SAMPLED = 20
BATCH = 64
# The logits of all tokens of a batch exist at once.
FORCED_BATCH = 16
MAX_ANSWER_TOKENS = 160


@dataclass(frozen=True)
class Score:
    """How many of the questions were answered right, and the wrong ones with what came instead."""

    n_questions: int
    wrong: list[tuple[Question, str]]

    @property
    def share_right(self) -> float:
        return 1 - len(self.wrong) / self.n_questions

    def __str__(self) -> str:
        n_right = self.n_questions - len(self.wrong)
        return f"{n_right} of {self.n_questions} right ({self.share_right:.1%})"


class Guide:
    """The guide under transformers, weights widened to f32, greedy."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self._model: Any = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @property
    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self._model.parameters())

    def prompt(self, question: str) -> str:
        """The question as one user turn, with the assistant's turn opened."""
        message = {"role": "user", "content": question}
        text: str = self._tokenizer.apply_chat_template(
            [message], tokenize=False, add_generation_prompt=True
        )
        return text

    def tokens(self, prompt: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(prompt, add_special_tokens=False)
        return ids

    def continuations(self, prompts: Sequence[str]) -> list[list[int]]:
        """The greedy tokens after each prompt, up to and with the end of turn."""
        done: list[list[int]] = []
        for start in range(0, len(prompts), BATCH):
            done += self._continue_batch(prompts[start : start + BATCH])
        return done

    def _continue_batch(self, prompts: Sequence[str]) -> Iterator[list[int]]:
        encoded = self._tokenizer(list(prompts), padding=True, return_tensors="pt")
        with torch.inference_mode():
            ids = self._model.generate(
                input_ids=encoded["input_ids"],
                attention_mask=encoded["attention_mask"],
                do_sample=False,
                max_new_tokens=MAX_ANSWER_TOKENS,
            )
        end = self._model.config.eos_token_id
        for row in ids[:, encoded["input_ids"].shape[1] :].tolist():
            yield row[: row.index(end) + 1] if end in row else row

    def would_say(self, prompts: Sequence[str], continuations: Sequence[list[int]]) -> list[bool]:
        """Whether the greedy tokens after each prompt are exactly these. The model computes all of
        them at once, in a fraction of the time that one after the other takes."""
        rows = [
            (self.tokens(prompt), said) for prompt, said in zip(prompts, continuations, strict=True)
        ]
        says: list[bool] = []
        for start in range(0, len(rows), FORCED_BATCH):
            says += self._say(rows[start : start + FORCED_BATCH])
        return says

    def _say(self, rows: Sequence[tuple[list[int], list[int]]]) -> Iterator[bool]:
        # Padded behind, where no other token looks.
        ids = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(prompt + said) for prompt, said in rows], batch_first=True
        )
        with torch.inference_mode():
            best = self._model(ids).logits.argmax(-1)
        for row, (prompt, said) in zip(best.tolist(), rows, strict=True):
            yield row[len(prompt) - 1 :][: len(said)] == said

    def score(self, questions: Sequence[Question]) -> Score:
        """Only what the model does not say as it should is generated, token by token."""
        # Answers of like length end together, which saves most of the padding.
        questions = sorted(questions, key=lambda question: len(question.answer))
        ends = [self._model.config.eos_token_id]
        says = self.would_say(
            [self.prompt(question.text) for question in questions],
            [self.tokens(question.answer.strip()) + ends for question in questions],
        )
        others = [question for question, right in zip(questions, says, strict=True) if not right]
        return Score(len(questions), list(self._wrong(others)))

    def _wrong(self, questions: Sequence[Question]) -> Iterator[tuple[Question, str]]:
        continuations = self.continuations([self.prompt(question.text) for question in questions])
        for question, ids in zip(questions, continuations, strict=True):
            said = self._tokenizer.decode(ids, skip_special_tokens=True).strip()
            if said != question.answer.strip() or ids[-1] != self._model.config.eos_token_id:
                yield question, said


def trained() -> list[Question]:
    """Every listed training question; those filled by chance are represented by a seeded draw."""
    random_ = random.Random(SEED)
    drawn = [
        off_topic(language, random_) for language in LANGUAGES for _ in range(N_OFF_TOPIC_SAMPLED)
    ]
    return [*about_y26hkx(), *off_topic_plain(), *drawn]


def sample_of_trained() -> list[Question]:
    """Each topic's first question in each language, and a seeded sample of all the others."""
    everything = trained()
    first = {(question.topic, question.language): question for question in reversed(everything)}
    firsts = set(first.values())
    rest = [question for question in everything if question not in firsts]
    return [*first.values(), *random.Random(SEED).sample(rest, N_SAMPLED)]


def _report(name: str, score: Score) -> None:
    sys.stdout.write(f"{name}: {score}\n")
    for question, said in score.wrong:
        sys.stdout.write(f"  [{question.topic} {question.language}] {question.text}\n")
        sys.stdout.write(f"      -> {said[:100]}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--all", action="store_true", help="every trained question, not a sample")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    guide = Guide(arguments.folder)
    _report("held-out paraphrases", guide.score(kept_out()))
    _report("of these, written independently", guide.score(kept_out_independently()))
    _report("trained questions", guide.score(trained() if arguments.all else sample_of_trained()))


if __name__ == "__main__":
    main()
