"""The command line: `python -m autopar COMMAND`.

A command is a function that adds its own parser and says what runs it; one line in `COMMANDS`
makes it known.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # `add_parser` gives back the parser of one command.
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # pyright: ignore[reportPrivateUsage]

INTERRUPTED = 130  # what a shell reports for a command that Ctrl-C ended
READER_LEFT = 141  # and for one whose reader closed the pipe, as `head` does


def _add_demo(commands: Commands) -> None:
    from autopar._demo.workloads import NAMES

    parser = commands.add_parser(
        "demo",
        help="show autopar's choices on five workloads",
        description="Run five workloads as a plain loop and with autopar, on the standard "
        "library's own files and a web server on this machine, and compare.",
    )
    parser.add_argument(
        "workloads",
        nargs="*",
        metavar="WORKLOAD",
        help=f"run these only: {', '.join(NAMES)}",
    )
    parser.set_defaults(run=_run_demo)


def _run_demo(options: argparse.Namespace) -> int:
    from autopar._demo.show import demo
    from autopar._demo.workloads import NAMES

    names: list[str] = options.workloads
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"no workload {unknown[0]!r}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    return demo(names or NAMES)


COMMANDS: tuple[Callable[[Commands], None], ...] = (_add_demo,)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m autopar", description="Run a function over many items, fast."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; bad usage exits with 2."""
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output is gone; keep the interpreter from complaining as it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_LEFT
