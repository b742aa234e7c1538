"""The libraries that compute vectors, each behind `engine.runner.Runner`.

None of them may call anybody. OpenVINO does, when it is imported beside its package
openvino-telemetry: our own set-up leaves that out, pip does not. Said to be missing before anything
here imports OpenVINO, it is not even looked for, and OpenVINO goes on without it.
"""

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # how Python says it
