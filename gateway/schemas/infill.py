"""`POST /infill`, as llama-server's clients send it."""

from typing import Annotated, Any

from pydantic import Field

from gateway.schemas.base import HistoryModel
from gateway.schemas.chat import Text
from gateway.schemas.formats import FormatFields

MAX_FILES = 256


class InfillFile(HistoryModel):
    text: Text
    filename: Annotated[str, Field(max_length=1024)] = ""


class InfillRequest(FormatFields):
    input_prefix: Text = ""
    input_suffix: Text = ""
    # Other files of the project, the nearest last.
    input_extra: Annotated[list[InfillFile], Field(max_length=MAX_FILES, fail_fast=True)] | None = (
        None
    )
    # What the middle begins with.
    prompt: Text = ""
    # Of no effect here: limits of time and of the reply's fields.
    n_indent: Any = None
    t_max_prompt_ms: Any = None
    t_max_predict_ms: Any = None
    response_fields: Any = None
    lora: Any = None
    dry_multiplier: Any = None
    xtc_probability: Any = None


def without_effect(body: InfillRequest) -> set[str]:
    """Names of fields of this API that the client set and that change nothing."""
    own = InfillRequest.model_fields.keys() - FormatFields.model_fields.keys()
    unused = own - {"input_prefix", "input_suffix", "input_extra", "prompt"}
    return {name for name in body.model_fields_set & unused if getattr(body, name) is not None}
