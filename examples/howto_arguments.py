"""Maps functions that take more than one argument."""

from functools import partial

from autopar import auto_map, auto_starmap


def price(amount: int, each: float, discount: float = 0.0) -> float:
    """What so many cost."""
    return amount * each * (1 - discount)


amounts, prices = [3, 1, 2], [2.5, 10.0, 4.0]

# One iterable for each argument, as `map` takes them:
print(auto_map(price, amounts, prices))

# The arguments of each call in one tuple, as `itertools.starmap` takes them:
print(auto_starmap(price, [(3, 2.5), (1, 10.0, 0.5)]))

# Arguments that are the same for all, by name or by position:
print(auto_map(partial(price, discount=0.2), amounts, prices))
print(auto_map(partial(price, 10), prices))
