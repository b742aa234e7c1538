"""How much room bodies have by default, and which budget is refused."""

import psutil
import pytest
from pydantic import ValidationError

from common.cgroup import Allowance
from common.errors import Overloaded
from common.sizes import MIB
from gateway.middleware import body_budget
from gateway.middleware.body_budget import MOST_BYTES, BodyBudget, fitting_bytes
from gateway.settings import GatewaySettings


def test_a_small_container_leaves_room_for_few_bodies_and_a_large_machine_for_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = Allowance(limit_bytes=512 * MIB, left_bytes=432 * MIB)
    monkeypatch.setattr(body_budget, "allowances", lambda: iter([small]))
    assert fitting_bytes(8 * MIB) == 36 * MIB
    monkeypatch.setattr(body_budget, "allowances", lambda: iter([Allowance(64 * MIB, 10 * MIB)]))
    # One body alone is served whatever there is.
    assert fitting_bytes(8 * MIB) == 8 * MIB
    monkeypatch.setattr(body_budget, "allowances", lambda: iter(()))
    assert fitting_bytes(8 * MIB) <= MOST_BYTES
    assert fitting_bytes(8 * MIB) <= psutil.virtual_memory().total


def test_a_budget_that_the_largest_body_could_never_pass_is_refused() -> None:
    with pytest.raises(ValidationError, match="MAX_EMBEDDING_BODY_BYTES"):
        GatewaySettings(_env_file=None, MAX_BODY_BYTES_IN_FLIGHT=MIB)
    settings = GatewaySettings(_env_file=None, MAX_BODY_BYTES_IN_FLIGHT=8 * MIB)
    assert settings.max_body_bytes_in_flight == settings.largest_body_bytes


def test_a_budget_takes_what_fits_exactly() -> None:
    budget = BodyBudget(10)
    budget.in_flight_bytes = 4
    budget.check(6)
    with pytest.raises(Overloaded, match="10 bytes"):
        budget.check(7)
