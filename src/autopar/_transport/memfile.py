"""Files without a name, which nobody can find and the kernel frees with their last descriptor."""

from __future__ import annotations

import os


def new(name: str) -> int:
    """The descriptor of an empty one; it is closed when another program is started.

    In memory where the system has such files (Linux), else on disk, its name removed at once.
    name: for those who look at the open files of a process.
    """
    make = getattr(os, "memfd_create", None)
    if make is not None:
        fd: int = make(name, os.MFD_CLOEXEC)
        return fd
    import tempfile

    fd, path = tempfile.mkstemp(prefix=name)
    os.unlink(path)
    return fd
