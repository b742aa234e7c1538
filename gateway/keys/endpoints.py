"""Which right a path needs: the one list of groups of endpoints, and of what only admins may do.

A group is a name in a key's `endpoints`. A path that no line below names needs no right but a valid
key; a test compares the list with all routes.
"""

from functools import lru_cache
from typing import Literal, NamedTuple

Kind = Literal["chat", "embeddings"]

READ = ("GET", "HEAD")
ADMIN = "admin"
# Groups that a key has only if its `endpoints` name them.
NAMED_ONLY = frozenset({"monitoring"})

# Beginnings of paths, and their groups; the first that fits counts.
GROUPS = (
    ("/v1/admin", ADMIN),
    ("/v1/reload-embeddings", ADMIN),
    ("/api/pull", ADMIN),
    ("/api/delete", ADMIN),
    ("/api/create", ADMIN),
    ("/api/copy", ADMIN),
    ("/metrics", "monitoring"),
    ("/health/detailed", "monitoring"),
    ("/health/memory", "monitoring"),
    ("/v1/chat", "chat"),
    ("/api/chat", "chat"),
    ("/chat", "chat"),
    ("/v1/messages", "chat"),
    ("/v1/responses", "chat"),
    ("/responses", "chat"),
    ("/v1/conversations", "chat"),
    ("/v1/completions", "completions"),
    ("/completions", "completions"),
    ("/api/generate", "completions"),
    ("/infill", "completions"),
    ("/v1/embeddings", "embeddings"),
    ("/embeddings", "embeddings"),
    ("/api/embed", "embeddings"),
    ("/v1/rerank", "rerank"),
    ("/v2/rerank", "rerank"),
    ("/rerank", "rerank"),
    ("/v1/score", "rerank"),
    ("/score", "rerank"),
    ("/tokenize", "tokenize"),
    ("/detokenize", "tokenize"),
    ("/apply-template", "tokenize"),
    ("/v1/files", "batches"),
    ("/v1/batches", "batches"),
)
# Paths at which everything but reading is for admins: load, unload, pull, delete.
ADMIN_UNLESS_READ = ("/v1/models", "/models")
# Which limits count for a group.
KINDS: dict[str, Kind] = {
    "chat": "chat",
    "completions": "chat",
    "embeddings": "embeddings",
    "rerank": "embeddings",
}
# What a key's `endpoints` may name.
NAMES = tuple(dict.fromkeys(group for _, group in GROUPS if group != ADMIN))


class Need(NamedTuple):
    """
    Args:
        group: the right that a path needs; empty: none but a valid key.
        kind: the limits that count; None: none of tokens.
    """

    group: str
    kind: Kind | None


@lru_cache(1024)
def need_of(method: str, path: str) -> Need:
    """What a request needs, by its method and its path."""
    if method not in READ and _is_below(path, ADMIN_UNLESS_READ):
        return Need(ADMIN, None)
    group = next((group for begin, group in GROUPS if path.startswith(begin)), "")
    # Only a POST computes; others look at what is stored.
    return Need(group, KINDS.get(group) if method == "POST" else None)


def _is_below(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)


def may_call(endpoints: tuple[str, ...] | None, group: str) -> bool:
    """Whether a key that is no admin's and has these `endpoints` may call that group."""
    if not group:
        return True
    if group == ADMIN:
        return False
    return group not in NAMED_ONLY if endpoints is None else group in endpoints
