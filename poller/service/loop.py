"""The event loop that everything runs on: uvloop where it can be imported, asyncio's own elsewhere."""

from __future__ import annotations

import importlib.util
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


def run_on_loop(work: Callable[[], Awaitable[T]]) -> T:
    """Run to the end and answer its result."""
    fast = importlib.util.find_spec("uvloop") is not None
    return anyio.run(work, backend="asyncio", backend_options={"use_uvloop": fast})
