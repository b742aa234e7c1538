"""Train the guide from scratch: `python -m models.guide.train [--steps 900]`.

Writes the folder `qwen2-y26hkx-guide` (bf16 safetensors, tokenizer, template) and the GGUF beside
it. The loss counts the assistant's tokens only: the model has to understand questions, not to
write them.
"""

import argparse
import math
import random
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from models.guide import tokenizer as guide_tokenizer
from models.guide.export import write_gguf
from models.guide.questions import (
    LANGUAGES,
    Question,
    Variation,
    filled,
    off_topic,
    system_prompts,
    written,
)

HERE = Path(__file__).parent
NAME = "qwen2-y26hkx-guide"
SEED = 26
BATCH = 64
PEAK_LEARNING_RATE = 1.5e-3
OFF_TOPIC_SHARE = 0.12
WRITTEN_SHARE = 0.6
IGNORED = -100
REPORT_EVERY_STEPS = 20


def config(n_vocabulary: int) -> Qwen2Config:
    """4.2 million parameters; every width a multiple of 256, so that any quantization fits."""
    return Qwen2Config(
        vocab_size=n_vocabulary,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=n_vocabulary - 1,
        pad_token_id=n_vocabulary - 3,
    )


class Samples:
    """Draws training conversations: (token ids, labels), labels -100 where nothing is learnt."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._random = random.Random(SEED)
        self._variation = Variation(SEED)
        self._tokenizer = tokenizer
        # Written questions are fewer and richer than filled templates: each kind gets its share.
        self._kinds = [_by_topic(written()), _by_topic(filled())]
        self._topics = list(self._kinds[0])
        self._system = system_prompts()

    def draw(self) -> tuple[list[int], list[int]]:
        chance = self._random.random()
        turns = 1 if chance < 0.85 else 2
        ids: list[int] = []
        labels: list[int] = []
        if self._random.random() < 0.2:
            self._add(ids, labels, "system", self._random.choice(self._system))
        for _ in range(turns):
            question = self._question()
            self._add(ids, labels, "user", self._variation.vary(question))
            self._add(ids, labels, "assistant", question.answer)
        return ids, labels

    def _question(self) -> Question:
        if self._random.random() < OFF_TOPIC_SHARE:
            return off_topic(self._random.choice(LANGUAGES), self._random)
        topic = self._random.choice(self._topics)
        is_written = self._random.random() < WRITTEN_SHARE or topic not in self._kinds[1]
        return self._random.choice(self._kinds[not is_written][topic])

    def _add(self, ids: list[int], labels: list[int], role: str, text: str) -> None:
        head = self._tokenizer.encode(f"<|im_start|>{role}\n").ids
        body = self._tokenizer.encode(f"{text}<|im_end|>").ids
        tail = self._tokenizer.encode("\n").ids
        ids += head + body + tail
        learnt = body if role == "assistant" else [IGNORED] * len(body)
        labels += [IGNORED] * len(head) + learnt + [IGNORED] * len(tail)


def _by_topic(questions: list[Question]) -> dict[tuple[str, str], list[Question]]:
    found: dict[tuple[str, str], list[Question]] = {}
    for question in questions:
        found.setdefault((question.topic, question.language), []).append(question)
    return found


def batch(samples: Samples, pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(BATCH, longest) int64 ids and labels, padded on the right."""
    drawn = [samples.draw() for _ in range(BATCH)]
    longest = max(len(ids) for ids, _ in drawn)
    ids = torch.full((BATCH, longest), pad)
    labels = torch.full((BATCH, longest), IGNORED)
    for row, (tokens, targets) in enumerate(drawn):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, : len(targets)] = torch.tensor(targets)
    return ids, labels


def loss_of(model: Any, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy over the learnt positions; logits are computed for those only."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        learnt = targets != IGNORED
        logits = model.lm_head(hidden[learnt])
    return functional.cross_entropy(logits.float(), targets[learnt])


def learning_rate(progress: float) -> float:
    """Warm-up over the first 4 %, then a cosine down to 2 %."""
    if progress < 0.04:
        return PEAK_LEARNING_RATE * progress / 0.04
    return PEAK_LEARNING_RATE * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)


def train(n_steps: int) -> tuple[Any, Tokenizer]:
    torch.manual_seed(SEED)
    tokenizer = guide_tokenizer.train()
    samples = Samples(tokenizer)
    model: Any = Qwen2ForCausalLM(config(tokenizer.get_vocab_size()))
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.05)
    started = time.monotonic()
    for step in range(n_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step / n_steps)
        loss = loss_of(model, *batch(samples, model.config.pad_token_id))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % REPORT_EVERY_STEPS == 0:
            took = time.monotonic() - started
            sys.stdout.write(f"step {step}/{n_steps}  loss {loss.item():.4f}  {took:.0f} s\n")
            sys.stdout.flush()
    return model, tokenizer


def save(model: Any, tokenizer: Tokenizer, folder: Path) -> None:
    """Round to bf16 once, then write both forms from the same numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    model = model.to(torch.bfloat16).eval()
    model.generation_config = GenerationConfig(
        eos_token_id=model.config.eos_token_id, pad_token_id=model.config.pad_token_id
    )
    model.save_pretrained(folder)
    guide_tokenizer.save(tokenizer, folder)
    write_gguf(folder, folder.with_name(f"{folder.name}.gguf"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / NAME)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    save(*train(arguments.steps), arguments.out)


if __name__ == "__main__":
    main()
