"""The built-in guide keeps its promises: right answers, one behaviour in both engines, small."""

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
llama_cpp: Any = pytest.importorskip("llama_cpp")

from models.guide.evaluate import (  # noqa: E402 -- only where the engines are installed
    FOLDER,
    MAX_ANSWER_TOKENS,
    Guide,
    sample_of_trained,
)
from models.guide.questions import (  # noqa: E402
    Variation,
    about_y26hkx,
    all_texts,
    kept_out,
    kept_out_independently,
    off_topic_plain,
    plain,
)

GGUF = FOLDER.with_name(f"{FOLDER.name}.gguf")
MAX_BYTES = 25_000_000
MAX_PARAMETERS = 8_000_000
N_COMPARED = 100
CONTEXT_TOKENS = 512


@pytest.fixture(scope="module")
def guide() -> Guide:
    return Guide()


@pytest.fixture(scope="module")
def llama() -> Iterator[Any]:
    model = llama_cpp.Llama(str(GGUF), n_ctx=CONTEXT_TOKENS, n_threads=1, verbose=False)
    yield model
    model.close()


@pytest.fixture(scope="module")
def prompts(guide: Guide) -> list[str]:
    """A seeded mixture of trained and held-out questions, as chat prompts."""
    questions = [*sample_of_trained(), *kept_out()]
    return [guide.prompt(q.text) for q in random.Random(0).sample(questions, N_COMPARED)]


def show(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Print past pytest's capture: the score belongs in every test log."""
    with capsys.disabled():
        sys.stdout.write(f"\n{line}\n")


def test_answers_at_least_98_percent_of_its_training_questions_right(
    guide: Guide, capsys: pytest.CaptureFixture[str]
) -> None:
    score = guide.score(sample_of_trained())
    show(f"guide, trained questions: {score}", capsys)
    assert score.n_questions >= 300
    assert score.share_right >= 0.98, score.wrong[:20]


def test_answers_at_least_75_percent_of_the_held_out_paraphrases_right(
    guide: Guide, capsys: pytest.CaptureFixture[str]
) -> None:
    score = guide.score(kept_out())
    independent = set(kept_out_independently())
    n_wrong = sum(question in independent for question, _ in score.wrong)
    n_right = len(independent) - n_wrong
    show(f"guide, held-out paraphrases: {score}", capsys)
    show(f"guide, those written independently: {n_right} of {len(independent)}", capsys)
    assert score.share_right >= 0.75, score.wrong[:20]


def test_both_engines_split_a_prompt_into_the_same_tokens(
    guide: Guide, llama: Any, prompts: list[str]
) -> None:
    for prompt in prompts:
        assert llama.tokenize(prompt.encode(), add_bos=False, special=True) == guide.tokens(prompt)


def test_both_engines_give_the_same_greedy_tokens(
    guide: Guide, llama: Any, prompts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = [greedy(llama, guide.tokens(prompt)) for prompt in prompts]
    n_same = sum(guide.would_say(prompts, said))
    show(f"guide, same greedy tokens in both engines: {n_same} of {len(prompts)}", capsys)
    assert n_same / len(prompts) >= 0.95


def greedy(llama: Any, prompt: list[int]) -> list[int]:
    """llama.cpp's most likely tokens after `prompt`, up to and with the end of turn."""
    tokens: list[int] = []
    for token in llama.generate(prompt, temp=0.0, repeat_penalty=1.0):
        tokens.append(token)
        if token == llama.token_eos() or len(tokens) == MAX_ANSWER_TOKENS:
            break
    return tokens


def test_both_forms_together_stay_below_25_megabytes_and_8_million_parameters(
    guide: Guide,
) -> None:
    files = [GGUF, *(path for path in FOLDER.iterdir() if path.is_file())]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES
    assert guide.n_parameters <= MAX_PARAMETERS


def test_no_held_out_paraphrase_is_trained_on() -> None:
    held_out = {plain(question.text) for question in kept_out()}
    assert len(held_out) == len(kept_out())
    assert not held_out & {plain(text) for text in all_texts()}
    variation = Variation(seed=1)
    varied = [variation.vary(q) for q in [*about_y26hkx(), *off_topic_plain()] for _ in range(3)]
    assert not held_out & {plain(text) for text in varied}


def test_the_gguf_carries_the_name_and_the_template_of_the_folder(llama: Any) -> None:
    assert llama.metadata["general.name"] == FOLDER.name
    template = (FOLDER / "chat_template.jinja").read_text(encoding="utf-8")
    assert llama.metadata["tokenizer.chat_template"] == template


def test_the_folder_holds_what_both_loaders_look_for() -> None:
    wanted = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json")
    assert [name for name in wanted if not Path(FOLDER / name).is_file()] == []
