"""Sizes in bytes, and how messages write them."""

MIB = 1024**2
GIB = 1024**3


def mib(n_bytes: int) -> str:
    """`n_bytes` as text for people: "1,234 MiB"."""
    return f"{n_bytes / MIB:,.0f} MiB"
