"""Chat models on OpenVINO's paged attention, with this project's own block tables.

No library may send data over the network. OpenVINO does when its package openvino-telemetry is
installed; without it, it works as well. So that package is marked as missing here, before any
module of this package imports OpenVINO.
"""

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # marks it as missing
