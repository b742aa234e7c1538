"""The error tree survives every hop."""

import grpc
import msgspec
import pytest
from google.rpc.error_details_pb2 import Help
from google.rpc.status_pb2 import Status

from common import errors
from common.error_texts import ErrorText
from common.errors import BackendFailure, ServingError, error_type, error_types
from common.rpc_status import from_status, to_status
from protos.y26hkx.v1.common_pb2 import ErrorTexts
from worker_runtime.engine_process.protocol import PipeError

EVERY_ERROR = list(error_types())


def full(kind: type[ServingError]) -> ServingError:
    why = ErrorText("files_unreadable", number=5)
    return kind(
        ErrorText("load_failed", why=why),
        param="messages[0].role",
        retry_after_s=1.25,
        suggestions=(ErrorText("use_model", model="記憶體"), "a plugin's words", "second"),
        metadata={"needed_bytes": "123"},
    )


def known(error: ServingError) -> object:
    """All that is known of it, its texts by their ids and fields."""

    def parts(text: str) -> object:
        if not isinstance(text, ErrorText):
            return text
        return text.id, {name: parts(value) for name, value in text.fields.items()}

    said = [parts(text) for text in (error.message, *error.suggestions)]
    return type(error), said, error.__dict__


@pytest.mark.parametrize("kind", EVERY_ERROR)
@pytest.mark.parametrize("bare", [True, False])
def test_every_error_crosses_grpc_unchanged(kind: type[ServingError], bare: bool) -> None:
    error = kind("bare") if bare else full(kind)
    found = from_status(Status.FromString(to_status(error).SerializeToString()))
    assert found is not None
    assert known(found) == known(error)


@pytest.mark.parametrize("kind", EVERY_ERROR)
def test_every_error_crosses_the_pipe_unchanged(kind: type[ServingError]) -> None:
    error = full(kind)
    encoded = msgspec.msgpack.encode(PipeError.of(error))
    found = msgspec.msgpack.decode(encoded, type=PipeError).error()
    assert known(found) == known(error)


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


def test_clients_of_grpc_alone_read_finished_english() -> None:
    status = to_status(full(errors.BackendLoadFailed))
    why = "the model could not be loaded: its files could not be read (error 5)"
    assert status.message == why
    (help_,) = [detail for detail in status.details if detail.Is(Help.DESCRIPTOR)]
    links = Help()
    help_.Unpack(links)
    assert links.links[0].description == "use the model 記憶體"


def test_a_worker_with_no_catalogue_is_shown_as_it_speaks() -> None:
    status = to_status(full(errors.BackendLoadFailed))
    status.details.remove(next(d for d in status.details if d.Is(ErrorTexts.DESCRIPTOR)))
    found = from_status(status)
    assert found is not None
    assert not isinstance(found.message, ErrorText)
    assert found.message == status.message
    assert found.suggestions == ("use the model 記憶體", "a plugin's words", "second")


@pytest.mark.parametrize("at", ["outside", "inside"])
def test_a_worker_with_another_catalogue_is_shown_as_it_speaks(at: str) -> None:
    status = to_status(full(errors.BackendLoadFailed))
    detail = next(d for d in status.details if d.Is(ErrorTexts.DESCRIPTOR))
    texts = ErrorTexts()
    detail.Unpack(texts)
    changed = texts.message if at == "outside" else texts.message.fields["why"]
    changed.id = "from_a_newer_worker"
    detail.Pack(texts)
    found = from_status(status)
    assert found is not None
    assert not isinstance(found.message, ErrorText)
    assert found.message == status.message
    assert isinstance(found.suggestions[0], ErrorText)


def test_an_engine_process_with_another_catalogue_is_shown_as_it_speaks() -> None:
    sent = PipeError.of(full(errors.BackendLoadFailed))
    sent.text.id = "from_a_newer_version"
    found = sent.error()
    assert not isinstance(found.message, ErrorText)
    assert found.message == "the model could not be loaded: its files could not be read (error 5)"
