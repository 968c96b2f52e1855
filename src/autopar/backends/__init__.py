"""The means of running items, one file or folder each, found through one registry."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# A backend is imported when it is first asked for: the process backend alone takes 10 ms.
# A hybrid is processes of many threads each.
_PLACES = {
    "serial": ("serial", "Serial"),
    "threads": ("threads", "Threads"),
    "processes": ("processes", "Processes"),
    "hybrid": ("processes", "Processes"),
}
_opened: dict[tuple[str, str], Any] = {}

NAMES = tuple(_PLACES)


def backend(name: str) -> Any:
    """The backend of this name; one object for the whole process."""
    module, cls = place = _PLACES[name]
    found = _opened.get(place)
    if found is None:
        found = _opened[place] = getattr(import_module(f"{__name__}.{module}"), cls)()
    return found


def warm(name: str) -> bool:
    """Whether workers of the backend of this name wait for a call; it is not imported for that."""
    found = _opened.get(_PLACES[name])
    return found is not None and found.warm


def helped() -> bool:
    """Whether workers in processes would be there soon; the backend is not imported for that."""
    found = _opened.get(_PLACES["processes"])
    return found is not None and found.helped


def shutdown(*, wait: bool = True) -> None:
    """Ends every worker that no call is using."""
    for found in list(_opened.values()):
        if hasattr(found, "shutdown"):
            found.shutdown(wait=wait)
