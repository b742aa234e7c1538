"""Memory pressure on this machine, from Linux's pressure stall information (PSI).

The kernel reports in which share of the last ten seconds some tasks, or all of them at once, waited
for memory. A machine under pressure becomes slow long before any process is killed. So no model is
loaded under pressure, and under full pressure idle models are evicted.
Source: Documentation/accounting/psi.rst of the Linux kernel.
"""

import sys
from pathlib import Path
from typing import Literal

import msgspec

from worker_runtime.clock import Clock

SYSTEM_FILE = Path("/proc/pressure/memory")
# Shares of ten seconds. Pressure begins at the first value and ends below the second, so that it
# does not flicker.
SOME_BEGINS, SOME_ENDS = 0.10, 0.05
FULL_BEGINS, FULL_ENDS = 0.05, 0.01
# How long full pressure must last before models are evicted.
SUSTAINED_S = 10.0
# The kernel's figures lag: what the last eviction freed shows only after some seconds.
GIVE_BACK_EVERY_S = 5.0

PressureState = Literal["none", "some", "full"]


class Stall(msgspec.Struct, frozen=True):
    """Shares of the last ten seconds, 0 to 1; zero where the system does not report them."""

    some: float = 0.0
    full: float = 0.0


def read_stall(file: Path = SYSTEM_FILE) -> Stall:
    """The present stall figures; zero except on Linux with PSI."""
    if sys.platform != "linux":
        return Stall()
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except OSError:
        return Stall()
    return Stall(**{kind: share for kind, share in map(_share, lines) if kind in ("some", "full")})


def _share(line: str) -> tuple[str, float]:
    """Parse a line such as "some avg10=1.25 avg60=0.50 avg300=0.10 total=123456"."""
    kind, _, rest = line.partition(" avg10=")
    number = rest.partition(" ")[0]
    return kind, float(number) / 100 if number.replace(".", "", 1).isdigit() else 0.0


class PressureGate:
    """Decides whether models may be loaded, or must be evicted, under the present pressure."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._full_since_s: float | None = None
        self._last_turn_s = float("-inf")
        self.stall = Stall()
        self.state: PressureState = "none"

    def note(self, stall: Stall) -> None:
        """Record the present figures; to be called every few seconds."""
        self.stall = stall
        full = stall.full >= (FULL_ENDS if self.state == "full" else FULL_BEGINS)
        some = stall.some >= (SOME_BEGINS if self.state == "none" else SOME_ENDS)
        now_s = self._clock.monotonic()
        if not full:
            self._full_since_s = None
        elif self._full_since_s is None:
            self._full_since_s = now_s
        sustained = self._full_since_s is not None and now_s - self._full_since_s >= SUSTAINED_S
        if full and (sustained or self.state == "full"):
            self.state = "full"
        else:
            self.state = "some" if some or full else "none"

    @property
    def may_load(self) -> bool:
        return self.state == "none"

    def take_turn(self) -> bool:
        """Whether to evict one model now. True is followed by a pause of some seconds."""
        now_s = self._clock.monotonic()
        if self.state != "full" or now_s - self._last_turn_s < GIVE_BACK_EVERY_S:
            return False
        self._last_turn_s = now_s
        return True
