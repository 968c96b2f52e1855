"""A worker's `logging`: records that pass the caller's levels go to the caller.

Loaded with `logging` itself, not before.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from typing import Any

from autopar._transport.wire import LOG

Send = Callable[[int, Any], None]

_PLAIN = frozenset({str, int, float, bool, type(None)})
_applied: dict[str, int] = {}  # levels set here, by logger


class Forward(logging.Handler):
    """The only handler of a worker: sends each record to the caller, at once and in order."""

    send: Send

    def emit(self, record: logging.LogRecord) -> None:
        """Sends a record, with its message made and its traceback printed."""
        try:
            self.send(LOG, self._plain(record))
        except Exception:
            self.handleError(record)

    def _plain(self, record: logging.LogRecord) -> tuple[dict[str, Any], dict[str, bytes]]:
        """A record's fields; apart from them, pickled, those that may not exist for the caller."""
        fields = dict(record.__dict__)
        if fields["args"] or type(record.msg) is str:
            fields["msg"] = fields["message"] = record.getMessage()
        fields["args"] = None
        if record.exc_info and not record.exc_text:
            fields["exc_text"] = _formatter.formatException(record.exc_info)
        fields["exc_info"] = None
        extras: dict[str, bytes] = {}
        for name, value in list(fields.items()):
            if type(value) not in _PLAIN:
                del fields[name]
                try:
                    extras[name] = pickle.dumps(value, 5)
                except Exception:
                    fields[name] = _shown(value)
        return fields, extras


_formatter = logging.Formatter()
_forward = Forward()


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return object.__repr__(value)


def install(levels: tuple[int, dict[str, int]], send: Send) -> None:
    """Makes the caller's levels hold, and `Forward` the only handler there is."""
    _forward.send = send
    disabled, wanted = levels
    manager = logging.root.manager
    if manager.disable != disabled:
        logging.disable(disabled)
    for name, level in (dict.fromkeys(_applied, logging.NOTSET) | wanted).items():
        logger = logging.getLogger(name)
        if logger.level != level:
            logger.setLevel(level)
    _applied.clear()
    _applied.update(wanted)
    logging.root.handlers[:] = [_forward]
    for each in list(manager.loggerDict.values()):
        # What modules attach when they are imported, the caller's process has too: there it acts.
        if isinstance(each, logging.Logger):
            each.handlers.clear()
            each.propagate = True
            each.disabled = False
