"""A coroutine function as a plain one, which blocks until its coroutine has been awaited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Blocking:
    """Calls `func`, and awaits what it gives on an event loop of its own.

    func: it has this name for whoever asks which function is behind a callable.
    """

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the coroutine returns."""
        import asyncio  # 30 ms, which only those pay who have something to await

        async def main() -> Any:
            return await self.func(*args, **kwargs)

        return asyncio.run(main())
