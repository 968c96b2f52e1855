import json
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

from autopar import auto_map

worker = threading.local()


def load(path: str) -> None:
    """Give this worker the price list, read once and not for every item."""
    worker.prices = json.loads(Path(path).read_text())


def price(name: str) -> float:
    return float(worker.prices[name])


with TemporaryDirectory() as folder:
    path = Path(folder, "prices.json")
    path.write_text('{"pear": 0.4, "plum": 0.2}')
    prices = auto_map(price, ["pear", "plum"] * 50, initializer=load, initargs=(str(path),))
    print(prices[:4])
