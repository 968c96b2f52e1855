"""Maps that are awaited, of functions that compute and of coroutine functions."""

import asyncio
from contextlib import aclosing

from autopar import aimap, amap, auto_map


def primes_below(limit):
    """Computes."""
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, limit))


async def fetch(number):
    """Waits, as for a server."""
    await asyncio.sleep(0.01)
    return f"page {number}"


async def orders():
    """Come slowly, and without an end."""
    number = 0
    while True:
        yield number
        number += 1
        await asyncio.sleep(0.001)


async def main():
    print("primes:", await amap(primes_below, [10, 100, 1000]))

    pages = await amap(fetch, range(50), timeout=5, retries=2)
    print(len(pages), "pages, the last one is", pages[-1])

    async with aclosing(aimap(fetch, orders())) as results:
        async for page in results:
            if page == "page 20":
                break
    print("enough:", page)


asyncio.run(main())
print("without a loop:", auto_map(fetch, range(3)))
