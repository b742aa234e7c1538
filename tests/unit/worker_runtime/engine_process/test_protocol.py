"""Errors cross the pipe whole."""

from common.errors import BackendLoadFailed
from worker_runtime.engine_process import protocol


def test_an_error_that_names_a_file_whose_name_is_no_text_crosses() -> None:
    error = BackendLoadFailed(
        "no \udcff", suggestions=("mend \udcff",), metadata={"file": "\udcff"}
    )
    sent = protocol.frame(protocol.LoadFailed(protocol.PipeError.of(error)))
    report = protocol.report_decoder.decode(bytes(sent[4:]))
    assert isinstance(report, protocol.LoadFailed)
    assert report.error.error().message == "no \\udcff"
