"""`POST /v1/completions`."""

from typing import Annotated

from pydantic import Field

from gateway.schemas.base import TokenId, within
from gateway.schemas.formats import FormatFields
from gateway.schemas.sampling import OrNoLimit

MAX_PROMPTS = 128
Prompt = Annotated[str, Field(max_length=2 * 1024 * 1024)]
# fail_fast: as in embeddings.
Tokens = Annotated[list[TokenId], Field(min_length=1, max_length=131_072, fail_fast=True)]


class CompletionRequest(FormatFields):
    prompt: (
        Prompt
        | Tokens
        | Annotated[list[Prompt], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
        | Annotated[list[Tokens], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
    )
    # 0: only the prompt is read, and with echo and logprobs scored.
    max_tokens: Annotated[int, within("max_tokens"), OrNoLimit] | None = None
    logprobs: Annotated[int, within("top_logprobs")] | None = None
    echo: bool | None = None
    # As in /tokenize; unless it is false, for prompts that a template wrote, or that fill in the
    # middle.
    parse_special: bool | None = None
    best_of: Annotated[int, within("n")] | None = None
    suffix: Prompt | None = None
