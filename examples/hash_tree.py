"""Hash every file of a folder, and the folder as a whole.

Hashing large files computes outside the GIL, reading small ones is mostly Python: which of the two
a folder is, autopar finds out by itself.

    python hash_tree.py [FOLDER] [--files N]
"""

import argparse
import hashlib
import sys
import sysconfig
from pathlib import Path

from autopar import auto_map, observe


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_under(folder: Path, limit: int) -> list[Path]:
    """The first files in order of path; caches come and go and are left out."""
    paths = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return sorted(path for path in paths if path.is_file())[:limit]


def main() -> None:
    parser = argparse.ArgumentParser(description="Hash every file of a folder.")
    standard_library = Path(sysconfig.get_path("stdlib"))
    parser.add_argument("folder", nargs="?", type=Path, default=standard_library)
    parser.add_argument("--files", type=int, default=500, help="at most so many files")
    options = parser.parse_args()

    paths = files_under(options.folder, options.files)
    with observe() as seen:
        digests = auto_map(digest, paths)

    tree = hashlib.sha256("".join(digests).encode()).hexdigest()
    print(f"{len(paths)} files, tree {tree[:16]}")
    print(f"{seen.reports[0].backend}: {seen.reports[0].because}")
    if digests != [digest(path) for path in paths]:
        sys.exit("this is not what the plain loop gives")
    print("same as the plain loop")


if __name__ == "__main__":
    main()
