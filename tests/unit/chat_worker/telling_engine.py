"""The engine process of chat workers, which writes for what work it chooses the order of weights
into the file that `TOLD` names."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from chat_worker.engine_process import main
from worker_runtime import llama_model
from worker_runtime.weight_buffers import Buffers


def tell(_path: Path, products: Mapping[int, float]) -> Buffers:
    told = os.environ["TOLD"]  # noqa: TID251 - the test sets it
    Path(told).write_text(json.dumps(list(products.items())))
    return Buffers()


if __name__ == "__main__":
    vars(llama_model)["fastest_buffers"] = tell
    main()
