"""Waiting for one of several things; the others are cancelled and awaited."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def first_of(work: Coroutine[Any, Any, T], *others: Coroutine[Any, Any, Any]) -> T | None:
    """The result of `work`, or None if one of `others` ended before it.

    Raises:
        Exception: what `work` raised, or one of `others` that ended first.
    """
    working = asyncio.ensure_future(work)
    tasks = [working, *(asyncio.ensure_future(other) for other in others)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        for task in tasks:
            if task.done():
                task.result()
        return None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
