"""Functions of the standard library and of plain Python that compute."""

from __future__ import annotations

import ast
import base64
import collections
import csv
import datetime
import decimal
import difflib
import fractions
import html.parser
import io
import json
import pickle
import random
import re
import string
import struct
import textwrap
import tokenize
import xml.etree.ElementTree
from functools import partial
from typing import Any

from .entry import Entry, turns

DICE = random.Random(5)
WORDS = ["".join(DICE.choices(string.ascii_lowercase, k=DICE.randint(2, 9))) for _ in range(4000)]
PROSE = " ".join(WORDS)
ROWS = [{"id": n, "name": word, "tags": [word[:2], word[2:]]} for n, word in enumerate(WORDS)]
TEXT = json.dumps(ROWS[:1000])
TABLE = "\n".join(f"{n},{word},{n * 1.5}" for n, word in enumerate(WORDS[:2000]))
PAGE = "<html><body>" + "".join(f"<p class='{w}'>{w} <b>{w}</b></p>" for w in WORDS[:500])
TREE = "<r>" + "".join(f"<e n='{n}'>{word}</e>" for n, word in enumerate(WORDS)) + "</r>"
SOURCE = "\n".join(
    f"def {w}_{n}(x, y=2):\n    return [x * y, {n}]" for n, w in enumerate(WORDS[:150])
)
FIND = re.compile(r"\b(\w)\w*?(\w)\1?\b(?=\s+\w{3,})")


def loop(rounds: int) -> int:
    total = 0
    for number in range(rounds):
        total += number * number % 7
    return total


def json_loads(turn: int) -> int:
    return len(json.loads(TEXT)) + turn


def json_dumps(turn: int) -> int:
    return len(json.dumps(ROWS[turn : turn + 1500]))


def regex(turn: int) -> int:
    return sum(found.start() for found in FIND.finditer(PROSE, turn))


def pickle_round(turn: int) -> int:
    return len(pickle.loads(pickle.dumps(ROWS[turn : turn + 1500])))


def sort_words(turn: int) -> str:
    return sorted(WORDS[turn:], key=lambda word: (len(word), word[::-1]))[5]


def count_words(turn: int) -> int:
    return len(collections.Counter(PROSE[turn:].split()))


def wrap(turn: int) -> int:
    return len(textwrap.wrap(PROSE[turn : turn + 10_000], 60))


def read_csv(turn: int) -> int:
    return sum(int(row[0]) for row in csv.reader(io.StringIO(TABLE))) + turn


class _Links(html.parser.HTMLParser):
    seen = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen += 1


def read_html(turn: int) -> int:
    links = _Links()
    links.feed(PAGE)
    return links.seen + turn


def read_xml(turn: int) -> int:
    return len(xml.etree.ElementTree.fromstring(TREE)) + turn


def parse_source(turn: int) -> int:
    return len(ast.parse(SOURCE).body) + turn


def read_tokens(turn: int) -> int:
    return sum(1 for _ in tokenize.generate_tokens(io.StringIO(SOURCE).readline)) + turn


def compare(turn: int) -> float:
    left, right = PROSE[turn : turn + 400], PROSE[turn + 90 : turn + 490]
    return difflib.SequenceMatcher(None, left, right).ratio()


def roots(turn: int) -> decimal.Decimal:
    with decimal.localcontext(decimal.Context(prec=400)):
        return sum((decimal.Decimal(turn + n).sqrt() for n in range(60)), decimal.Decimal())


def harmonic(turn: int) -> fractions.Fraction:
    return sum((fractions.Fraction(1, turn + n + 1) for n in range(200)), fractions.Fraction())


def power(turn: int) -> int:
    return pow(3 + turn, 1 << 14, (1 << 521) - 1) + (7**9000 * turn) % 11


def encode(turn: int) -> int:
    return len(base64.b64encode(base64.b85encode(PROSE.encode()[turn:])))


def read_dates(turn: int) -> int:
    days = (datetime.date(2000, 1, 1) + datetime.timedelta(turn + n) for n in range(500))
    return sum(datetime.datetime.strptime(day.isoformat(), "%Y-%m-%d").month for day in days)


def unpack(turn: int) -> int:
    return sum(a + b for a, b in struct.iter_unpack("<IH", bytes(6 * 6000))) + turn


def fill_template(turn: int) -> int:
    row = string.Template("$name has $count of $what")
    return sum(len(row.substitute(name=w, count=turn, what=w)) for w in WORDS[:600])


def add_one(number: int) -> int:
    return number + 1


def upper(word: str) -> str:
    return word.upper()


def small_dict(number: int) -> dict[str, int]:
    return {"number": number, "square": number * number}


ENTRIES = [
    Entry("loop", "python", loop, partial(list, range(50_000, 50_100))),
    Entry("loop-short", "python", loop, partial(list, range(1500, 5500))),
    Entry("json-loads", "python", json_loads, turns(400)),
    Entry("json-dumps", "python", json_dumps, turns(200)),
    Entry("regex", "python", regex, turns(200)),
    Entry("pickle", "python", pickle_round, turns(250)),
    Entry("sort", "python", sort_words, turns(250)),
    Entry("count", "python", count_words, turns(600)),
    Entry("wrap", "python", wrap, turns(200)),
    Entry("csv", "python", read_csv, turns(500)),
    Entry("html", "python", read_html, turns(80)),
    Entry("xml", "python", read_xml, turns(200)),
    Entry("ast", "python", parse_source, turns(120)),
    Entry("tokens", "python", read_tokens, turns(60)),
    Entry("difflib", "python", compare, turns(120)),
    Entry("decimal", "python", roots, turns(250)),
    Entry("fractions", "python", harmonic, turns(600)),
    Entry("power", "python", power, turns(1500)),
    Entry("base64", "python", encode, turns(200)),
    Entry("dates", "python", read_dates, turns(120)),
    Entry("struct", "python", unpack, turns(500)),
    Entry("template", "python", fill_template, turns(300)),
    Entry("add-one", "trivial", add_one, turns(300_000)),
    Entry("upper", "trivial", upper, partial(list, WORDS * 40)),
    Entry("small-dict", "trivial", small_dict, turns(200_000)),
]
