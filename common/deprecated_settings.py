"""Variables of the earlier server that another setting replaces or that have no effect any more.

They are still read and translated to the new settings, and each is mentioned once at the start.
Only the standard library is used, because the supervisor, which stays small, reads this table, too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

ON = frozenset({"1", "true", "yes", "on", "t", "y"})
OFF = frozenset({"0", "false", "no", "off", "f", "n"})

# Translates the old value to the new setting's; None means that setting's default.
Meaning = Callable[[str], str | None]


@dataclass(frozen=True)
class Deprecated:
    """One old variable.

    Args:
        name: the variable.
        replacement: the setting that replaces it; empty if none does.
        meaning: translates its value; raises ValueError if the value is not valid.
        conflict: which value counts if both are set: "old", "new", or "both": the new setting's
            list, extended by the old variable's entry unless it has an entry of that name.
        reason: why the variable has no effect.
    """

    name: str
    replacement: str = ""
    meaning: Meaning = lambda value: None
    conflict: Literal["old", "new", "both"] = "new"
    reason: str = ""


@dataclass(frozen=True)
class Translation:
    """The settings that follow from the old variables in an environment.

    Args:
        values: settings by variable; they replace what the environment has.
        notes: a sentence about each old variable that was found.
        mistakes: what is wrong with a value, by variable.
    """

    values: Mapping[str, str]
    notes: tuple[str, ...]
    mistakes: Mapping[str, str]


def translate(given: Mapping[str, str]) -> Translation:
    """Translate the old variables in `given`, whose keys are upper-case names."""
    values: dict[str, str] = {}
    notes: list[str] = []
    mistakes: dict[str, str] = {}
    for old in DEPRECATED:
        value = given.get(old.name, "").strip()
        if not value:
            continue
        try:
            meant = old.meaning(value)
        except ValueError as error:
            mistakes[old.name] = str(error)
            continue
        present = values.get(old.replacement, given.get(old.replacement, "")).strip()
        chosen = _chosen(old, meant, present)
        if chosen is not None:
            values[old.replacement] = chosen
        notes.append(_note(old, value, meant, present, chosen))
    return Translation(values, tuple(notes), mistakes)


def _chosen(old: Deprecated, meant: str | None, present: str) -> str | None:
    """The value for the replacement; None if it keeps its own."""
    if meant is None or not present or old.conflict == "old":
        return meant
    named = [entry.partition(":")[0].strip().lower() for entry in present.split(",")]
    if old.conflict == "new" or meant.partition(":")[0] in named:
        return None
    return f"{present},{meant}"


def _note(old: Deprecated, value: str, meant: str | None, present: str, chosen: str | None) -> str:
    given = f"{old.name}={value}"
    if not old.replacement:
        return f"{given} has no effect: {old.reason}"
    if meant is None:
        return f"{given} is the default: leave it out ({old.replacement} replaces it)"
    if chosen is None and present != meant:
        return f"{given} has no effect, as {old.replacement}={present} is set and replaces it"
    note = f"{given} is deprecated: write {old.replacement}={chosen or present} instead"
    if present and old.conflict == "old" and present != meant:
        return f"{note}; it overrides {old.replacement}={present}"
    return note


def _is_on(value: str) -> bool:
    if value.lower() not in ON | OFF:
        raise ValueError(f"{value!r} is neither 1 nor 0")
    return value.lower() in ON


def _when_on(meant: str) -> Meaning:
    return lambda value: meant if _is_on(value) else None


def _when_off(meant: str) -> Meaning:
    return lambda value: None if _is_on(value) else meant


def _factor(quantization: str) -> Meaning:
    return lambda value: f"{quantization}:{value}"


DEPRECATED = (
    # The earlier server's switches counted more than the settings that they turned off.
    Deprecated("AUTO_MEMORY_MANAGEMENT", "PROFILE", _when_off("off"), "old"),
    Deprecated("MODEL_UNLOAD_ENABLED", "MODEL_IDLE_TIMEOUT", _when_off("-1"), "old"),
    Deprecated("STRICT_MEMORY_CHECK", "MIN_REMAIN_AFTER_LOAD_GB", _when_on("1"), "new"),
    Deprecated("PRELOAD_MAIN_MODEL", "PRELOAD_MODELS", _when_on("main"), "both"),
    Deprecated("PRELOAD_EMBEDDING_MODEL", "PRELOAD_MODELS", _when_on("default-embedding"), "both"),
    Deprecated("MEMORY_EXPANSION_FP", "TRANSFORMERS_MEMORY_FACTORS", _factor("none"), "both"),
    Deprecated("MEMORY_EXPANSION_8BIT", "TRANSFORMERS_MEMORY_FACTORS", _factor("8bit"), "both"),
    Deprecated("MEMORY_EXPANSION_4BIT", "TRANSFORMERS_MEMORY_FACTORS", _factor("4bit"), "both"),
    Deprecated("MODEL_UNLOAD_CHECK_INTERVAL", reason="models are unloaded on time, not by polling"),
    Deprecated("METRICS_COLLECTION_INTERVAL", reason="metrics are computed whenever they are read"),
    Deprecated("LOW_CPU_MEM_USAGE", reason="transformers models are always loaded that way"),
    Deprecated("MIN_BATCH_SIZE", reason="a batch never waits for more texts"),
    Deprecated("ADAPTIVE_BATCH_SIZING", reason="batches are always sized by their tokens"),
)
