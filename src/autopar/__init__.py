"""Runs a function over many items as fast as this machine and interpreter allow."""

from ._api import auto_map, auto_starmap, plan, shutdown
from ._errors import (
    AutoparError,
    BackendUnavailable,
    OptionTypeError,
    OptionValueError,
    TransportError,
    UsageError,
    WorkerCrashed,
)
from ._model import Observation, Plan, Travel
from ._report.report import Report, observe

__all__ = [
    "AutoparError",
    "BackendUnavailable",
    "Observation",
    "OptionTypeError",
    "OptionValueError",
    "Plan",
    "Report",
    "TransportError",
    "Travel",
    "UsageError",
    "WorkerCrashed",
    "auto_map",
    "auto_starmap",
    "observe",
    "plan",
    "shutdown",
]
