"""The cell: what a worker that has died had done before."""

from __future__ import annotations

import os
from typing import Any

from autopar._transport.cell import INDEX, SIZE, Cell, new_file

VALUES: list[Any] = [
    None,
    7,
    "é\x80",
    [1, (2, "three")],
    b"\x80\x02",
    2.5,
    {"a": {1}},
    True,
    "last",
]


def ends() -> tuple[Cell, Cell]:
    """The same cell, as the worker and as the caller has it."""
    fd = new_file()
    cells = Cell(fd), Cell(fd)
    os.close(fd)
    return cells


def save(cell: Cell, first: int, values: list[Any]) -> None:
    cell.clear(first)
    for index, value in enumerate(values, first):
        cell.numbers[INDEX] = index
        assert cell.save(value)


def test_results_of_the_items_before_the_one_being_run_are_kept() -> None:
    worker, caller = ends()
    save(worker, 100, VALUES)
    assert caller.saved(100) == VALUES[:-1]  # of the last one nobody has said that it is whole
    assert caller.saved(103) == VALUES[3:-1]
    assert caller.saved(108) == caller.saved(99) == []
    worker.numbers[INDEX] = 109
    assert caller.saved(100) == VALUES


def test_what_has_been_sent_is_not_kept_any_more() -> None:
    worker, caller = ends()
    save(worker, 0, VALUES)
    worker.clear(len(VALUES))
    assert caller.saved(0) == caller.saved(8) == []
    save(worker, len(VALUES), [1, 2])
    assert caller.saved(len(VALUES)) == [1]


def test_a_cell_that_is_full_takes_no_more_and_keeps_what_it_has() -> None:
    worker, caller = ends()
    save(worker, 0, ["x" * 20_000] * 3)
    worker.numbers[INDEX] = 3
    assert not worker.save("y" * (SIZE - 60_000))
    assert not worker.save(lambda: None)
    assert worker.save(1)
    worker.numbers[INDEX] = 4
    assert caller.saved(0) == [*["x" * 20_000] * 3, 1]
