"""The script a helper process starts from: makes a light `autopar` package, and runs the helper.

Importing autopar whole would cost each helper more than all it has to do. The package made here
finds the modules below it, and becomes the whole one when user code first asks it for a name.
"""

import os
import sys


class _Package(type(sys)):  # type: ignore[misc]  # ModuleType, without importing `types`
    """`autopar`, whose `__init__` has not run yet."""

    __path__: list[str]

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") or "_whole" in self.__dict__ or _is_module(self, name):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self._whole = True
        path = self.__path__[0] + "/__init__.py"
        with open(path, "rb") as file:
            exec(compile(file.read(), path, "exec"), self.__dict__)
        return getattr(self, name)


def _is_module(package: _Package, name: str) -> bool:
    """Whether a name is a module below the package: importing it is enough then."""
    path = f"{package.__path__[0]}/{name}"
    return os.path.exists(path + ".py") or os.path.isdir(path)


def _add_builtins() -> None:
    """Adds what user code may call and the module `site`, which was left out, would have added."""
    import site  # imported so late, it does nothing by itself

    site.setquit()
    site.setcopyright()
    site.sethelper()


def _main() -> None:
    root = __file__.rpartition("/_worker/")[0]
    package = _Package("autopar", "autopar in a worker process")
    package.__path__ = [root]
    package.__file__ = root + "/__init__.py"
    package.__package__ = "autopar"
    package._worker_process = True
    sys.modules["autopar"] = package
    sys.path.pop(0)  # this script's folder
    if sys.flags.no_site:
        _add_builtins()
    from autopar._worker.helper import main

    sys.modules["__main__"] = type(sys)("__main__")
    main(3, 4, bare=sys.argv[1:] == ["bare"])


_main()
