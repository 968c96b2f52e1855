"""How Sphinx builds these pages: `sphinx-build -W docs docs/_build`."""

import inspect
import re
from importlib import metadata
from typing import Any

from sphinx.application import Sphinx

project = "autopar"
author = "the autopar authors"
copyright = "2026, the autopar authors"
release = metadata.version("autopar")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "exclude-members": "__init__, __new__"}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = "autopar"


def setup(app: Sphinx) -> None:
    app.connect("autodoc-skip-member", skip_aliases)
    app.connect("autodoc-process-docstring", list_fields, priority=400)  # before napoleon


def skip_aliases(
    app: Sphinx, what: str, name: str, member: object, skip: bool, options: object
) -> bool | None:
    """A record's fields are listed once, with its parameters, and not again as aliases."""
    return True if type(member).__name__ == "_tuplegetter" else None


def list_fields(
    app: Sphinx, what: str, name: str, member: Any, options: object, lines: list[str]
) -> None:
    """Makes a list of what a class's docstring says of its fields as `name: meaning`."""
    own_init = what in ("class", "exception") and "__init__" in vars(member)
    if not own_init and not hasattr(member, "_fields"):
        return
    fields = "|".join(inspect.signature(member).parameters)
    field = re.compile(rf"(?:^|(?<=[;.]) )({fields}): ")
    text = "\n".join(field.sub(r"\n:param \1: ", line) for line in lines)
    lines[:] = text.split("\n")
    in_field = False
    for at, line in enumerate(lines):
        in_field = bool(line) and (in_field or line.startswith(":param "))
        if in_field and not line.startswith((":", " ")):
            lines[at] = "    " + line
