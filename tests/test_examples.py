"""The programs in examples/, and so the code of the docs, run as a user runs them."""

import subprocess
import sys
from math import sqrt
from pathlib import Path

import pytest


def error_of(call):
    """What a call raises, which Python's versions word in their own ways."""
    with pytest.raises(ValueError) as caught:
        call()
    return caught.value


EXAMPLES = Path(__file__).parents[1] / "examples"

# What each program must print, beside ending well and silently.
PRINTS = {
    "fetch_pages.py": ["50 pages, the last one <h1>Page 49</h1>", "same as the plain loop"],
    "hash_tree.py": ["500 files, tree ", "same as the plain loop"],
    "howto_choose.py": [
        "threads, 5 workers: 20 items",
        "processes, 2 workers: 20 items",
        "serial, 1 workers: 20 items",
    ],
    "howto_arguments.py": [
        "[7.5, 10.0, 8.0]\n[7.5, 5.0]\n",
        "[6.0, 8.0, 6.4]\n[25.0, 100.0, 40.0]\n",
    ],
    "howto_async.py": [
        "primes: [4, 25, 168]\n",
        "50 pages, the last one is page 49\n",
        "enough: page 20\n",
        "without a loop: ['page 0', 'page 1', 'page 2']\n",
    ],
    "howto_errors.py": [
        f"raised: {error_of(lambda: sqrt(-1.0))}\n",
        "good: [2.0, 3.0]",
        "failed: 2",
    ],
    "howto_decorator.py": ["4\n[4, 6, 4]\n[4, TypeError(", "4\n9\n5\n"],
    "howto_executor.py": ["['how!', 'when!']\n", "['who!', 'why!']\n", "what!\nwhere!\n"],
    "howto_faults.py": [
        "tea: TEA\n",
        "stone: not done within 0.5 s\n",
        "milk: MILK\n",
        "bomb: its process died, exit code -9\n",
        "soup: ValueError: sold out\n",
        "jam: JAM\n",
    ],
    "howto_initializer.py": ["[0.4, 0.2, 0.4, 0.2]"],
    "howto_lazy.py": ["enough: 1015\n", "there is 25\n", "there is 49\n"],
    "howto_output.py": [
        "WARNING smoke from the burnt rice\n",
        "lines: ['cooking burnt rice', 'cooking soup']\n",
    ],
    "howto_owner_died.py": ["an owner died in the middle: ", "8 begun, 8 done\n"],
    "howto_progress.py": ["fetch: all 200 done, on threads\n", "enough\n"],
    "howto_reduce.py": ["[('to', 9900), ('be', 9900)]\n"],
    "howto_retry.py": [
        "home: '<home>' after 3\n",
        "missing: FileNotFoundError('missing') after 1\n",
        "news: '<news>' after 3\n",
    ],
    "howto_seed.py": ["same seed, same numbers: True\n", "other seed, same numbers: False\n"],
    "howto_share.py": ["2800 interpreter\n"],
    "howto_submit.py": ["the key is 83b878ab\n", "it failed: TypeError("],
    "monte_carlo.py": [", formula 7.128", "same as the plain loop"],
    "resize_images.py": ["30 thumbnails", "same as the plain loop"],
    "spelling.py": [],
    "tutorial_1_loop.py": ["200 words in "],
    "tutorial_2_map.py": ["200 words in "],
    "tutorial_3_report.py": ["200 items"],
    "tutorial_4_plan.py": [" workers: ", "   serial ", "  threads ", "processes "],
    "tutorial_5_errors.py": [
        "LookupError: no word is like 'xqzwvk'",
        "item 10",
        "21 answers, nothing found for ['xqzwvk']",
    ],
    "two_rooms.py": [
        "autopar.threads: 3 texts, 14 words\n",
        "autopar.processes: 3 texts, 14 words\n",
    ],
    "word_count.py": ["250 files", "same as the plain loop"],
}


def run(program: Path, *arguments: str, folder: Path) -> str:
    """What the program prints, warnings being errors."""
    command = [sys.executable, "-W", "error", str(program), *arguments]
    ended = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
    return ended.stdout


def test_every_example_is_tested():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(PRINTS)


@pytest.mark.parametrize("name", PRINTS)
def test_an_example_runs_from_any_folder_and_prints_what_it_should(name, tmp_path):
    printed = run(EXAMPLES / name, folder=tmp_path)
    assert [words for words in PRINTS[name] if words not in printed] == []
    assert list(tmp_path.iterdir()) == []


def test_the_programs_take_more_work_or_less(tmp_path):
    assert "12 pages" in run(EXAMPLES / "fetch_pages.py", "--pages", "12", folder=tmp_path)
    assert "7 files" in run(EXAMPLES / "hash_tree.py", "--files", "7", folder=tmp_path)
    assert "0 files" in run(EXAMPLES / "word_count.py", str(tmp_path), folder=tmp_path)


@pytest.mark.parametrize("name", ["monte_carlo.py", "hash_tree.py"])
def test_a_program_can_come_from_standard_input(name, tmp_path):
    command = [sys.executable, "-W", "error", "-"]
    with (EXAMPLES / name).open() as program:
        ended = subprocess.run(
            command, cwd=tmp_path, stdin=program, capture_output=True, text=True, timeout=50
        )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "same as the plain loop" in ended.stdout
