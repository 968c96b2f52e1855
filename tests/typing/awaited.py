"""Maps that are awaited, and maps of coroutine functions. Checked, never run."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from functools import partial
from typing import Any, assert_type

from autopar import aimap, amap, auto_imap, auto_map, parallel


async def fetch(url: str) -> bytes:
    return url.encode()


async def fetch_part(url: str, size: int) -> bytes:
    return url.encode()[:size]


async def urls() -> AsyncIterator[str]:
    yield "a"


def parse(text: str) -> int:
    return int(text)


def part(text: str, size: int) -> str:
    return text[:size]


def anything(text: str) -> Any:
    return text


class Client:
    async def get(self, url: str) -> float:
        return float(len(url))


async def awaited() -> None:
    assert_type(await amap(parse, ["1"]), list[int])
    assert_type(await amap(parse, urls(), errors="return", kind="io"), list[int | Exception])
    assert_type(await amap(fetch, ["a"]), list[bytes])
    assert_type(await amap(fetch, urls(), workers=3, timeout=1.0), list[bytes])
    assert_type(await amap(fetch, {"a"}, errors="return"), list[bytes | Exception])
    assert_type(await amap(Client().get, ["a"]), list[float])
    assert_type(await amap(partial(fetch_part, size=3), ["a"]), list[bytes])
    assert_type(await amap(fetch_part, urls(), [1]), list[bytes])
    assert_type(await amap(part, urls(), [3]), list[str])
    async for page in aimap(fetch, urls(), ordered=False, buffersize=4):
        assert_type(page, bytes)
    assert_type(aimap(parse, ["1"]), AsyncGenerator[int, None])
    assert_type(aimap(parse, ["1"], errors="return"), AsyncGenerator[int | Exception, None])
    assert_type(aimap(fetch_part, urls(), [1]), AsyncGenerator[bytes, None])
    await aimap(parse, ["1"]).aclose()


# from code that blocks

assert_type(auto_map(fetch, ["a"]), list[bytes])
assert_type(auto_map(fetch, ["a"], errors="return", retries=2), list[bytes | Exception])
assert_type(auto_imap(fetch, ["a"]), Iterator[bytes])
assert_type(auto_map(anything, ["a"]), list[Any])
assert_type(auto_map(lambda text: len(text), ["a"]), list[int])

# decorated


@parallel
async def load(url: str) -> bytes:
    return url.encode()


@parallel(kind="io")
def read(path: str) -> str:
    return path


async def decorated() -> None:
    assert_type(await load("a"), bytes)
    assert_type(load.map(["a"]), list[bytes])
    assert_type(load.starmap([("a",)]), list[bytes])
    assert_type(load.map(["a"], errors="return"), list[bytes | Exception])
    assert_type(load.imap(["a"]), Iterator[bytes])
    assert_type(await load.amap(urls()), list[bytes])
    assert_type(load.aimap(urls()), AsyncGenerator[bytes, None])
    assert_type(await read.amap(["a"]), list[str])
    assert_type(read.aimap(["a"]), AsyncGenerator[str, None])
    assert_type(read.map(["a"]), list[str])
