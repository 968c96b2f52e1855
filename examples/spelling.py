"""The tutorial's slow function: it finds the word somebody meant to type."""

from difflib import get_close_matches
from pydoc_data.topics import topics

TEXT = "".join(letter if letter.isalpha() else " " for letter in " ".join(topics.values()))
VOCABULARY = sorted({word.lower() for word in TEXT.split() if len(word) > 3})


def misspell(word: str) -> str:
    """The word without its middle letter."""
    middle = len(word) // 2
    return word[:middle] + word[middle + 1 :]


def correct(typed: str) -> str:
    """The word of the vocabulary most like the one typed.

    Raises: LookupError: no word is like it.
    """
    for word in get_close_matches(typed, VOCABULARY, n=1, cutoff=0.7):
        return word
    raise LookupError(f"no word is like {typed!r}")


TYPED = [misspell(word) for word in VOCABULARY[:: len(VOCABULARY) // 200]][:200]
