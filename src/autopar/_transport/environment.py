"""The environment, compared without decoding it.

`os.environ` encodes or decodes each name and value whenever it is read, which for forty variables
takes 30 us, and this is done by the caller and by every worker in each call.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # `typing` costs a new worker 5 ms
if TYPE_CHECKING:
    from typing import Any


def snapshot() -> dict[Any, Any]:
    """The environment as it is now, to be compared with `is_still` only."""
    return dict(_raw())


def is_still(snapshot: dict[Any, Any] | None) -> bool:
    """Whether the environment is what it was."""
    return bool(_raw() == snapshot)


def _raw() -> Any:
    """What stands behind `os.environ` where that is known, else itself, which is slow but right."""
    return getattr(os.environ, "_data", os.environ)
