"""The README and the docs say only what is true of the code beside them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import autopar

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text()
PAGES = sorted(path for path in (PROJECT / "docs").rglob("*.rst") if "_build" not in path.parts)
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(program: str, folder: Path) -> str:
    """What a file with this program prints, started in its own folder without any guard."""
    (folder / "program.py").write_text(program)
    command = [sys.executable, "-W", "error", "program.py"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=50)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def commands_named(name: str) -> list[str]:
    """The commands of the README's block that is marked with this name."""
    block = re.search(rf"<!-- {name} -->\n```sh\n(.*?)```", README, re.DOTALL)
    assert block, f"the README has no block marked {name!r}"
    return block[1].strip().splitlines()


def test_the_first_example_has_five_lines_and_counts_the_primes(tmp_path):
    lines = [line for line in PROGRAMS[0].splitlines() if line.strip()]
    assert len(lines) == 5
    assert run(PROGRAMS[0], tmp_path) == "8392\n"


@pytest.mark.parametrize("program", PROGRAMS[1:])
def test_every_other_program_of_the_readme_runs(program, tmp_path):
    assert run(program, tmp_path)


@pytest.mark.parametrize(("name", "ends_with"), [("run", "-m autopar demo"), ("test", "-m pytest")])
def test_one_command_sets_up_and_does_the_job(name, ends_with):
    (command,) = commands_named(name)
    assert "-m venv" in command
    assert command.endswith(ends_with)


def test_the_links_of_the_readme_lead_to_files_of_the_project():
    links = re.findall(r"\]\(([^)#]+)", README)
    assert links
    assert [link for link in links if not (PROJECT / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_programs_in_the_docs_are_the_tested_examples(page):
    text = page.read_text()
    included = re.findall(r"^\s*\.\. literalinclude:: (\S+)", text, re.MULTILINE)
    files = [(page.parent / name).resolve() for name in included]
    assert [
        file for file in files if file.parent != PROJECT / "examples" or not file.exists()
    ] == []
    assert not re.search(r"code-block:: python|>>> ", text)


def test_the_reference_lists_every_public_name():
    reference = (PROJECT / "docs" / "reference.rst").read_text()
    listed = re.findall(r"^\.\. auto(?!module)\w+:: autopar\.(\w+)$", reference, re.MULTILINE)
    assert sorted(listed) == sorted(autopar.__all__)
