"""The beginnings of past sequences, so that none is computed twice: in memory, then on disk.

What a slot loses comes here, and a sequence that begins in the same way gets it back. Memory holds
as much as the worker has booked for it; what leaves memory goes to disk if there is a folder for
it. A prefix is only kept or restored if that takes less time than to compute it again, by the
model's own speed.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from chat_worker.engine.disk_prefix_cache import DiskPrefixCache, StoredPrefix
from chat_worker.engine.pace import Pace
from chat_worker.engine.prefix_memory import PrefixMemory
from chat_worker.engine.prefixes import HeldPrefix
from chat_worker.engine.runner import KeepSlot, SlotStates


@dataclass(frozen=True)
class FoundPrefix:
    """A kept prefix of which the first `n_usable` tokens begin a sequence."""

    prefix: HeldPrefix | StoredPrefix
    n_usable: int


class PrefixCache:
    """The kept prefixes of one model. Used by the engine's thread only.

    Args:
        states: copies slots; None: nothing is kept.
        disk: None: nothing is kept there.
        whole: the backend cannot use a part of a prefix.
    """

    def __init__(
        self,
        states: SlotStates | None,
        disk: DiskPrefixCache | None = None,
        *,
        whole: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._states = states
        self._disk = disk
        self._clock = clock
        self._memory = PrefixMemory(whole=whole)
        # By tokens.
        self._computing, self._reading = Pace(unknown_s=math.inf), Pace(unknown_s=0.0)
        # By bytes.
        self._saving, self._restoring = Pace(unknown_s=0.0), Pace(unknown_s=0.0)

    @property
    def held(self) -> list[HeldPrefix]:
        """What is in memory, the most recently used first."""
        return self._memory.held

    def limit(self, max_bytes: int) -> None:
        """Hold no more than `max_bytes` in memory from now on."""
        self._write_behind(self._memory.limit(max_bytes))

    def learn(self, n_tokens: int, seconds: float) -> None:
        """The model computed so many tokens in one batch."""
        self._computing.learn(n_tokens, seconds)

    def keep(self, op: KeepSlot) -> None:
        """Keep what a slot holds, if that is worthwhile and there is room."""
        salt = _key(op.salt)
        if self._states is None or self._memory.refresh(op.tokens, salt):
            return
        n_bytes = self._states.size(op.slot, len(op.tokens))
        spent_s = self._saving.seconds(n_bytes) + self._restoring.seconds(n_bytes)
        if spent_s >= self._computing.seconds(len(op.tokens)):
            return
        dropped = self._memory.make_room(op.tokens, salt, n_bytes)
        if dropped is None and self._disk is None:
            return
        self._write_behind(dropped or [])
        prefix = self._saved(op.slot, op.tokens, salt)
        if prefix is None:
            return
        if dropped is None:
            self._write_behind([prefix])
        else:
            self._memory.add(prefix)

    def longest(self, tokens: list[int], salt: str, n_held: int) -> FoundPrefix | None:
        """The prefix with which `tokens` are computed soonest; None if the first `n_held` tokens,
        which are in a slot, serve as well."""
        best = None
        for prefix, n_usable, copying_s in self._candidates(tokens, _key(salt)):
            gain = n_usable - n_held
            if gain > 0 and copying_s < self._computing.seconds(gain):
                best, n_held = FoundPrefix(prefix, n_usable), n_usable
        return best

    def restore(self, found: FoundPrefix, slot: int) -> bool:
        """Fill an empty slot with all tokens of a prefix; if this fails, the slot must be
        truncated."""
        assert self._states is not None, "a prefix was found"
        prefix, states, began_s = found.prefix, self._states, self._clock()
        if isinstance(prefix, StoredPrefix):
            assert self._disk is not None, "a prefix was found on disk"
            is_good = self._disk.load(prefix, lambda state: states.restore(state, slot))
            self._reading.learn(len(prefix.tokens), self._clock() - began_s)
            return is_good
        self._memory.touch(prefix)
        is_good = states.restore(prefix.state, slot)
        self._restoring.learn(prefix.state.nbytes, self._clock() - began_s)
        if not is_good:
            self._memory.drop(prefix)
        return is_good

    def put_away(self, slots: Iterable[KeepSlot], may_go_on: Callable[[], bool]) -> bool:
        """Write the slots and what is in memory to disk, the most recently used first.

        Args:
            may_go_on: asked before each write.
        Returns:
            False if that came to an end before all was written.
        """
        if self._disk is None:
            return True
        self._disk.finish(may_go_on)
        for op in slots:
            if not may_go_on():
                return False
            salt = _key(op.salt)
            if not self._disk.refresh(op.tokens, salt):
                prefix = self._saved(op.slot, op.tokens, salt)
                if prefix is not None:
                    self._disk.write(prefix)
        for prefix in self._memory.held:
            if not may_go_on():
                return False
            if not self._disk.refresh(prefix.tokens, prefix.salt):
                self._disk.write(prefix)
        return True

    def clear(self) -> None:
        """Free the memory."""
        self._memory.clear()

    def _candidates(
        self, tokens: list[int], key: str
    ) -> Iterator[tuple[HeldPrefix | StoredPrefix, int, float]]:
        """The longest prefix of each place, how many tokens it saves, and how long that takes."""
        held, n_usable = self._memory.longest(tokens, key)
        if held is not None:
            yield held, n_usable, self._restoring.seconds(held.state.nbytes)
        if self._disk is not None:
            stored, n_usable = self._disk.longest(tokens, key)
            if stored is not None:
                yield stored, n_usable, self._reading.seconds(len(stored.tokens))

    def _saved(self, slot: int, tokens: list[int], salt: str) -> HeldPrefix | None:
        assert self._states is not None, "there is something to keep"
        began_s = self._clock()
        state = self._states.save(slot, len(tokens))
        if state is None:
            return None
        self._saving.learn(state.nbytes, self._clock() - began_s)
        return HeldPrefix(tokens, salt, state)

    def _write_behind(self, dropped: list[HeldPrefix]) -> None:
        if self._disk is not None:
            for prefix in dropped[::-1]:
                self._disk.write_behind(prefix)


def _key(salt: str) -> str:
    """What the cache knows of a salt: files must not reveal it."""
    return hashlib.sha256(salt.encode()).hexdigest()[:32]
