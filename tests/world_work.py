"""Functions for the tests of the user's world: what they see of it, and what they do to it."""

from __future__ import annotations

import contextlib
import ctypes
import decimal
import io
import os
import random
import sys
import threading
import time
import warnings
from contextvars import ContextVar
from typing import Any

from autopar import auto_map

PLACE: ContextVar[Any] = ContextVar("PLACE", default="nowhere")
OTHER: ContextVar[Any] = ContextVar("OTHER", default="nothing")


class OddWarning(UserWarning):
    """A category of our own, whose constructor takes more than a text."""

    def __init__(self, what: str, how_odd: int) -> None:
        super().__init__(what, how_odd)
        self.how_odd = how_odd

    def __str__(self) -> str:
        return f"{self.args[0]} is odd"


def meet(path: str, side: int) -> None:
    """Returns when an item with the other side is being run by another process."""
    os.close(os.open(path, os.O_WRONLY if side % 2 else os.O_RDONLY))


def variables(_item: object) -> tuple[Any, Any]:
    return PLACE.get(), OTHER.get()


def set_place(value: object) -> Any:
    before = PLACE.get()
    PLACE.set(value)
    return before


def nested_variables(_item: object) -> Any:
    return auto_map(variables, [1, 2], backend="processes", workers=1)[0]


def divide(x: int) -> str:
    return str(decimal.Decimal(1) / x)


def divide_arrays(x: int) -> float:
    import numpy as np

    return float((np.ones(1) / np.full(1, x))[0])


def place(_item: object) -> tuple[str, str | None, bool]:
    return os.getcwd(), os.environ.get("AUTOPAR_WORLD"), "/nowhere/at/all" in sys.path


def spoil_place(_item: object) -> None:
    os.chdir("/")
    os.environ["AUTOPAR_WORLD"] = "spoiled"
    sys.path.append("/nowhere/at/all")


def getenv(name: str) -> str | None:
    """What libraries in C see of the environment."""
    ask = ctypes.CDLL(None).getenv
    ask.restype = ctypes.c_char_p
    value = ask(name.encode())
    return None if value is None else value.decode()


def warn_odd(x: int) -> int:
    warnings.warn(OddWarning("this", x), stacklevel=1)
    return x


def warn_where_met(pair: tuple[str, int]) -> int:
    meet(*pair)
    warnings.warn("said by both", UserWarning, stacklevel=1)
    return os.getpid()


def catches_its_own(x: int) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn(f"own {x}", stacklevel=1)
    return [str(each.message) for each in caught]


def log(text: str) -> str:
    import logging

    logging.getLogger("world.log").warning("%s and %s", text, text)
    return text


def log_every_level(_item: object) -> None:
    import logging

    for name in ("world.loud", "world.quiet", "world"):
        for level in (logging.DEBUG, 15, logging.INFO, logging.ERROR):
            logging.getLogger(name).log(level, "at %d", level)


def log_in_threads(count: int) -> None:
    import logging

    def run(number: int) -> None:
        for at in range(count):
            logging.getLogger(f"world.thread{number}").warning("%d", at)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def log_the_unpicklable(_item: object) -> None:
    import logging

    lock = threading.Lock()
    logging.getLogger("world.odd").error("held by %r", lock, extra={"lock": lock, "note": [1, 2]})


def log_a_failure(x: int) -> None:
    import logging

    try:
        print(1 / x)
    except ZeroDivisionError:
        logging.getLogger("world.failure").exception("no way", stack_info=True)


def log_an_object(_item: object) -> None:
    import logging

    logging.getLogger("world.object").warning({"event": "started", "count": 3})


def log_wrongly(_item: object) -> None:
    import logging

    logging.getLogger("world.wrong").warning("%d", "no number")


def configure_and_log(_item: object) -> list[str]:
    import logging

    logging.basicConfig(format="configured in the worker: %(message)s")
    logging.getLogger("world.configured").warning("once")
    return [type(handler).__name__ for handler in logging.root.handlers]


def keeps_its_own_log(x: int) -> str:
    import logging

    text = io.StringIO()
    handler = logging.StreamHandler(text)
    logging.getLogger("world.kept").addHandler(handler)
    logging.getLogger("world.kept").warning("kept %d", x)
    return text.getvalue()


def loaded(module: str) -> bool:
    return module in sys.modules


def print_lines(pair: tuple[int, int]) -> int:
    number, count = pair
    for at in range(count):
        print(number, at, "x" * 50)
    return os.getpid()


def print_where_met(triple: tuple[str, int, int]) -> int:
    meet(triple[0], triple[1])
    return print_lines(triple[1:])


def print_both(text: str) -> None:
    print("out", text)
    print("err", text, file=sys.stderr)


def print_part(text: str) -> None:
    print(text, end="", flush=True)


def print_part_slowly(text: str) -> None:
    """Takes longer than results wait to be sent."""
    until = time.thread_time() + 0.005
    while time.thread_time() < until:
        pass
    print(text, end="")


def print_part_and_fail(text: str) -> None:
    print(text, end="")
    raise ValueError(text)


def print_bytes(data: bytes) -> None:
    sys.stdout.buffer.write(data)


def print_long(size: int) -> None:
    print("y" * size)


def print_from_a_fork(text: str) -> None:
    print(text, "in the parent", end="; ")
    pid = os.fork()
    if not pid:
        print(text, "in the child", end="")
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)
    print("done")


def look(_item: object) -> list[Any]:
    streams = (sys.stdout, sys.stderr)
    return [(s and (s.fileno(), s.isatty(), s.encoding, s.errors)) for s in streams]


def redirects(text: str) -> str:
    inner = io.StringIO()
    with contextlib.redirect_stdout(inner):
        print("inner", text)
    print("outer", text)
    return inner.getvalue()


def takes_stdout(_item: object) -> None:
    sys.stdout = io.StringIO()


def closes_stdout(_item: object) -> None:
    sys.stdout.close()


def draw_where_met(pair: tuple[str, int]) -> tuple[float, float]:
    import numpy as np

    meet(*pair)
    return random.random(), float(np.random.random())


def draw(_item: object) -> tuple[float, float]:
    import numpy as np

    return random.random(), float(np.random.random())
