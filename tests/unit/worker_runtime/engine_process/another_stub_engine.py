"""The stub engine under another name; run with `python -m`."""

from tests.unit.worker_runtime.stub_engine import StubEngine
from worker_runtime.engine_process.host import host_engine

if __name__ == "__main__":
    host_engine(StubEngine)
