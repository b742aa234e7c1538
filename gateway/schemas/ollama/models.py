"""The requests of Ollama's API that are about models: show, embed, copy, create, pull, delete."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from common.error_texts import ErrorText
from common.errors import UnsupportedParameter
from gateway.schemas.base import MAX_NAME, FreeJson, HistoryModel, ModelId
from gateway.schemas.embeddings import MAX_INPUTS, MAX_TEXT
from gateway.schemas.keep_alive import KeepAlive
from gateway.schemas.ollama.chat import Message, ModelRequest
from gateway.schemas.ollama.options import Options

Name = Annotated[ModelId, Field(min_length=1)]
Input = Annotated[str, Field(max_length=MAX_TEXT)]
MAX_MODELFILE = 256 * 1024
MAX_SYSTEM = 64 * 1024
MAX_LICENSE = 64 * 1024
MAX_EXAMPLES = 64


class ShowRequest(ModelRequest):
    verbose: bool | None = None


class EmbedRequest(ModelRequest):
    input: Input | Annotated[list[Input], Field(max_length=MAX_INPUTS, fail_fast=True)] | None = (
        None
    )
    truncate: bool | None = None
    dimensions: Annotated[int, Field(ge=0, le=65_536)] | None = None
    keep_alive: KeepAlive | None = None
    options: Options | None = None

    @property
    def inputs(self) -> list[str]:
        if isinstance(self.input, str):
            return [self.input] if self.input else []
        return self.input or []


class OldEmbedRequest(ModelRequest):
    """`POST /api/embeddings`, which takes one text."""

    prompt: Input | None = None
    keep_alive: KeepAlive | None = None
    options: Options | None = None


class CopyRequest(HistoryModel):
    source: Name
    destination: Name


class DeleteRequest(ModelRequest):
    pass


class CreateRequest(ModelRequest):
    """In the form of today, with a field for each instruction, or with a whole Modelfile."""

    stream: bool | None = None
    from_: Annotated[ModelId | None, Field(alias="from")] = None
    system: Annotated[str, Field(max_length=MAX_SYSTEM)] | None = None
    template: Annotated[str, Field(max_length=MAX_MODELFILE)] | None = None
    parameters: Options | None = None
    messages: Annotated[list[Message], Field(max_length=MAX_EXAMPLES, fail_fast=True)] | None = None
    license: (
        Annotated[str, Field(max_length=MAX_LICENSE)]
        | Annotated[list[Annotated[str, Field(max_length=MAX_LICENSE)]], Field(max_length=16)]
        | None
    ) = None
    modelfile: Annotated[str, Field(max_length=MAX_MODELFILE)] | None = None
    # These need files of weights to be uploaded or written, which is not done here.
    files: FreeJson | None = None
    adapters: FreeJson | None = None
    quantize: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    quantization: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    path: Any = None

    @model_validator(mode="after")
    def _needs_no_files(self) -> Self:
        for name in ("files", "adapters", "quantize", "quantization", "path"):
            if getattr(self, name):
                raise UnsupportedParameter(
                    ErrorText("create_writes_no_files", name=name),
                    param=name,
                    suggestions=(ErrorText("put_file_into_models"),),
                )
        return self


class OllamaPullRequest(ModelRequest):
    stream: bool | None = None
