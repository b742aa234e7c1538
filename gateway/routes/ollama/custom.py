"""`/api/create` and `/api/copy`: names for models with a system prompt and options."""

import time
from collections.abc import AsyncGenerator
from typing import Any

import orjson
from fastapi import APIRouter
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from common.error_texts import ErrorText
from common.errors import InvalidRequest, UnsupportedParameter
from gateway.custom_models import CustomModel, Example, without_tag
from gateway.errors import json_response, shorten
from gateway.middleware.body import invalid, parse
from gateway.openapi import takes
from gateway.routes.named_model import is_listed
from gateway.routes.ollama.named import named
from gateway.schemas.ollama.models import CopyRequest, CreateRequest
from gateway.schemas.ollama.options import Options
from gateway.services import Services, services_of
from gateway.translate.ollama.modelfile import fields_of
from gateway.translate.request_parts import not_text
from gateway.transport.ndjson import json_lines

router = APIRouter()
DONE = {"status": "success"}


@router.post("/api/create", openapi_extra=takes(CreateRequest, streams="lines"))
async def create(request: Request) -> Response:
    """Make a name for a model with a system prompt and options; no file of weights is written."""
    services = services_of(request)
    body = await parse(request, CreateRequest)
    if body.modelfile:
        fields = fields_of(body.modelfile) | {"model": body.sent_name, "stream": body.stream}
        try:
            body = CreateRequest.model_validate(fields)
        except ValidationError as error:
            raise invalid(error, fields, CreateRequest) from None
    _check_name(services, body.sent_name, "model")
    services.custom_models.put(_made(services, body))
    if body.stream is False:
        return json_response(DONE)
    statuses = _statuses("using the model", "writing the name", "success")
    return json_lines(statuses, services.sse_limits)


@router.post("/api/copy", openapi_extra=takes(CopyRequest))
async def copy(request: Request) -> Response:
    """Make another name for a model, with the system prompt and options that the first has."""
    services = services_of(request)
    body = await parse(request, CopyRequest)
    found = named(services, body.source)
    _check_name(services, body.destination, "destination")
    name, created_s = without_tag(body.destination), time.time()
    if found.custom is not None:
        made = found.custom.model_copy(update={"name": name, "created_s": created_s})
    else:
        made = CustomModel(name=name, model=found.id, created_s=created_s)
    services.custom_models.put(made)
    return json_response(DONE)


async def _statuses(*words: str) -> AsyncGenerator[bytes, None]:
    for status in words:
        yield orjson.dumps({"status": status})


def _made(services: Services, body: CreateRequest) -> CustomModel:
    if body.template:
        raise UnsupportedParameter(
            ErrorText("template_unsupported"),
            param="template",
            suggestions=(ErrorText("leave_out", name="TEMPLATE"),),
        )
    if not body.from_:
        raise InvalidRequest(ErrorText("from_needed"), param="from")
    base = named(services, _without_folders(body.from_))
    for at, message in enumerate(body.messages or []):
        if message.images:
            raise not_text("image", f"messages[{at}].images")
    given = body.parameters or Options()
    texts = body.license or []
    made: dict[str, Any] = {
        "system": body.system,
        "messages": [Example(role=m.role, content=m.content or "") for m in body.messages or []],
        "license": texts if isinstance(texts, str) else "\n".join(texts),
    }
    inherited = base.custom.model_dump() if base.custom else {}
    return CustomModel.model_validate(
        inherited
        | {name: value for name, value in made.items() if value}
        | {
            "name": without_tag(body.sent_name),
            "model": base.id,
            "created_s": time.time(),
            "options": given.over(base.custom.options) if base.custom else given,
        }
    )


def _without_folders(name: str) -> str:
    """A file of the models folder is a model under its own name, wherever the client has it."""
    is_path = name.startswith((".", "/", "~")) or "\\" in name
    return name.replace("\\", "/").rpartition("/")[2] if is_path else name


def _check_name(services: Services, name: str, param: str) -> None:
    """
    Raises:
        InvalidRequest: a model of the workers has this name.
    """
    plain = without_tag(name)
    if not plain.strip() or not plain.isprintable():
        raise InvalidRequest(ErrorText("model_name_wrong"), param=param)
    if is_listed(services, plain) or is_listed(services, name):
        raise InvalidRequest(ErrorText("model_name_taken", model=shorten(name)), param=param)
