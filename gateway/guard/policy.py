"""The policy file (GUARD_POLICY), in TOML: which texts are looked for, and what happens then.

    [[rules]]
    name = "project-names"
    action = "block"              # or "redact", "flag"
    words = ["Project Falcon", "獵鷹計畫"]
    patterns = ['falcon-[0-9]{4}']

Each field is documented in docs/guard.md.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

MAX_POLICY_BYTES = 4 << 20

Action = Literal["block", "redact", "flag"]
Where = Literal["input", "output"]
Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")

Name = Annotated[str, Meta(pattern=r"^[\w.-]{1,64}$")]
Text = Annotated[str, Meta(min_length=1, max_length=1000)]
Words = Annotated[tuple[Text, ...], Meta(max_length=20_000)]
Patterns = Annotated[tuple[Text, ...], Meta(max_length=1000)]


class WrongPolicy(ValueError):
    """The policy file cannot be used; the text says why."""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is looked for.

    Args:
        name: in metrics, in the log, and in the error that a client gets.
        on: whether requests are searched, answers, or both.
        roles: whose messages of a request; a bare prompt or a text to embed counts as a user's.
        words: found whole, however they are written (`folding.py`); any white space fits a space.
        patterns: regular expressions in RE2's syntax, matched against the folded text.
        replacement: of what is redacted.
    """

    name: Name
    action: Action
    on: tuple[Where, ...] = ("input", "output")
    roles: tuple[Role, ...] = ROLES
    words: Words = ()
    patterns: Patterns = ()
    replacement: Annotated[str, Meta(max_length=100, pattern=r'^[^"\\\x00-\x1f]*$')] = "[redacted]"


class ClassifierRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An installed classifier, asked about each request that no rule blocks.

    Args:
        name: under which its package registers it (`classifier.py`).
        threshold: the score from which on `action` applies.
        timeout_s: until it must have answered, in seconds; its start is not counted.
        on_failure: of a classifier that crashes or is late: let the request pass, or refuse it.
        options: for its `load`.
    """

    name: Name
    action: Literal["block", "flag"] = "block"
    roles: tuple[Role, ...] = ("user", "tool")
    threshold: Annotated[float, Meta(ge=0, le=1)] = 0.5
    timeout_s: Annotated[float, Meta(gt=0, le=60)] = 5.0
    on_failure: Literal["block", "pass"] = "block"
    options: dict[str, Any] = {}


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Args:
        hold_back: characters of an answer that wait while a match may still grow.
        token_ids: whether requests may send token ids, which no rule can read.
        exempt_keys: ids or aliases of API keys that no rule applies to.
    """

    rules: Annotated[tuple[Rule, ...], Meta(max_length=200)] = ()
    classifiers: Annotated[tuple[ClassifierRule, ...], Meta(max_length=4)] = ()
    hold_back: Annotated[int, Meta(ge=16, le=4096)] = 256
    token_ids: Literal["block", "pass"] = "block"
    exempt_keys: Annotated[frozenset[str], Meta(max_length=10_000)] = frozenset()


class FileState(NamedTuple):
    """By which a changed file is told from an unchanged one."""

    mtime_ns: int
    size: int
    inode: int


def state_of(path: Path) -> FileState | None:
    """None: it cannot be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return FileState(found.st_mtime_ns, found.st_size, found.st_ino)


def read_policy(path: Path) -> Policy:
    """
    Raises:
        WrongPolicy: the file cannot be read, is no TOML, or says what no policy can.
    """
    try:
        if path.stat().st_size > MAX_POLICY_BYTES:
            raise WrongPolicy(f"larger than {MAX_POLICY_BYTES} bytes")
        policy = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Policy)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise WrongPolicy(f"cannot be read: {error}") from None
    except msgspec.ValidationError as error:
        raise WrongPolicy(str(error)) from None
    names = [rule.name for rule in policy.rules]
    names += [classifier.name for classifier in policy.classifiers]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise WrongPolicy(f"more than one rule is called {', '.join(sorted(repeated))}")
    return policy
