"""User code keeps its types through autopar: what is in tests/typing has to type-check."""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def test_user_code_type_checks_strictly():
    command = [sys.executable, "-m", "mypy", "--strict", "tests/typing"]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=55)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_package_says_that_it_is_typed():
    assert (PROJECT / "src" / "autopar" / "py.typed").exists()
