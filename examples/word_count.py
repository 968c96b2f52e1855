"""Count the words of a corpus, file by file, and add the counts up.

Finding words with a regular expression holds the GIL, so threads cannot help; the counts that
come back from other processes are small beside the work.

    python word_count.py [FOLDER] [--pattern "*.py"] [--files N]
"""

import argparse
import re
import sys
import sysconfig
from collections import Counter
from pathlib import Path

from autopar import auto_map, observe

WORD = re.compile(r"[a-z]{3,}")


def count_words(path: Path) -> Counter[str]:
    return Counter(WORD.findall(path.read_text(errors="replace").lower()))


def total(counts: list[Counter[str]]) -> Counter[str]:
    whole: Counter[str] = Counter()
    for count in counts:
        whole.update(count)
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description="Count the words of a corpus.")
    standard_library = Path(sysconfig.get_path("stdlib"))
    parser.add_argument("folder", nargs="?", type=Path, default=standard_library)
    parser.add_argument("--pattern", default="*.py")
    parser.add_argument("--files", type=int, default=250, help="at most so many files")
    options = parser.parse_args()

    paths = sorted(options.folder.rglob(options.pattern))[: options.files]
    with observe() as seen:
        counts = auto_map(count_words, paths)

    words = total(counts)
    common = ", ".join(f"{word} {count}" for word, count in words.most_common(5))
    print(f"{len(paths)} files, {words.total()} words: {common}")
    print(f"{seen.reports[0].backend}: {seen.reports[0].because}")
    if words != total([count_words(path) for path in paths]):
        sys.exit("this is not what the plain loop gives")
    print("same as the plain loop")


if __name__ == "__main__":
    main()
