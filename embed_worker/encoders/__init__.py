"""The libraries that compute vectors, each behind `engine.runner.EncoderRunner`.

No library may send data over the network. OpenVINO does when its package openvino-telemetry is
installed; our own set-up leaves that package out, but pip does not. If the package is marked as
missing before OpenVINO is imported, OpenVINO works without it.
"""

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # marks it as missing
