"""The means of running items, one file or folder each, found through one registry."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# A backend is imported when it is first asked for: the process backend alone takes 10 ms.
_PLACES = {
    "serial": ("serial", "Serial"),
    "threads": ("threads", "Threads"),
    "processes": ("processes", "Processes"),
}
_opened: dict[str, Any] = {}

NAMES = tuple(_PLACES)


def backend(name: str) -> Any:
    """The backend of this name; one object for the whole process."""
    found = _opened.get(name)
    if found is None:
        module, cls = _PLACES[name]
        found = _opened[name] = getattr(import_module(f"{__name__}.{module}"), cls)()
    return found


def shutdown(*, wait: bool = True) -> None:
    """Ends every worker that no call is using."""
    for found in list(_opened.values()):
        if hasattr(found, "shutdown"):
            found.shutdown(wait=wait)
