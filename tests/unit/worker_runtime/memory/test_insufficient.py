"""A refusal says what bounds the model, and which setting is raised to let it in."""

import pytest

from common.sizes import MIB
from worker_runtime.catalog import Capability
from worker_runtime.memory.budget import MemoryBudget
from worker_runtime.memory.insufficient import insufficient_memory


@pytest.mark.parametrize(
    ("capability", "setting"), [("chat", "CHAT_MEMORY"), ("embed", "EMBED_MEMORY")]
)
def test_in_a_container_its_limit_is_named_with_the_variable_that_raises_it(
    capability: Capability, setting: str
) -> None:
    room = MemoryBudget(640 * MIB, 70 * MIB, None, (), container_bytes=700 * MIB)
    refused = insufficient_memory(room, [600 * MIB], [], capability)
    assert "640 MiB are available below its container's limit of 700 MiB" in str(refused)
    assert any(setting in str(suggestion) for suggestion in refused.suggestions)
    assert not any("other programs" in str(suggestion) for suggestion in refused.suggestions)
    assert refused.metadata["container_bytes"] == str(700 * MIB)


def test_on_a_machine_no_container_is_named() -> None:
    refused = insufficient_memory(MemoryBudget(640 * MIB, 512 * MIB, None, ()), [MIB], [], "chat")
    assert "container" not in str(refused) + str(refused.suggestions)
