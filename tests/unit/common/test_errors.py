"""The error tree survives every hop."""

import grpc
import msgspec
import pytest
from google.rpc.status_pb2 import Status

from common import errors
from common.errors import BackendFailure, ServingError, error_type, error_types
from common.rpc_status import from_status, to_status
from worker_runtime.engine_process.protocol import PipeError

EVERY_ERROR = list(error_types())


def full(kind: type[ServingError]) -> ServingError:
    return kind(
        "what happened: 記憶體不足",
        param="messages[0].role",
        retry_after_s=1.25,
        suggestions=("first way out", "second"),
        metadata={"needed_bytes": "123"},
    )


@pytest.mark.parametrize("kind", EVERY_ERROR)
@pytest.mark.parametrize("bare", [True, False])
def test_every_error_crosses_grpc_unchanged(kind: type[ServingError], bare: bool) -> None:
    error = kind("bare") if bare else full(kind)
    found = from_status(Status.FromString(to_status(error).SerializeToString()))
    assert type(found) is kind
    assert found.__dict__ == error.__dict__


@pytest.mark.parametrize("kind", EVERY_ERROR)
def test_every_error_crosses_the_pipe_unchanged(kind: type[ServingError]) -> None:
    error = full(kind)
    encoded = msgspec.msgpack.encode(PipeError.of(error))
    found = msgspec.msgpack.decode(encoded, type=PipeError).error()
    assert type(found) is kind
    assert found.__dict__ == error.__dict__


def test_codes_are_unique_and_known_to_grpc() -> None:
    assert len({kind.code for kind in EVERY_ERROR}) == len(EVERY_ERROR)
    assert all(hasattr(grpc.StatusCode, kind.grpc_status) for kind in EVERY_ERROR)
    assert all(error_type(kind.code) is kind for kind in EVERY_ERROR)


def test_an_unknown_code_is_a_backend_failure() -> None:
    assert error_type("from a newer worker") is BackendFailure


def test_the_tree_in_the_docstring_names_every_error_with_its_status() -> None:
    assert errors.__doc__ is not None
    drawn = {
        (words[1], words[2])
        for line in errors.__doc__.splitlines()
        if len(words := line.replace("│", "").split()) > 2 and "──" in words[0]
    }
    assert drawn == {(kind.__name__, kind.grpc_status) for kind in EVERY_ERROR}


def test_a_foreign_status_is_not_taken_for_ours() -> None:
    assert from_status(Status(code=13, message="x")) is None
