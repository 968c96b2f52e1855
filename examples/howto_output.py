import logging
import sys
from contextlib import redirect_stdout
from io import StringIO

from autopar import auto_map

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(message)s")
logger = logging.getLogger("kitchen")


def cook(dish: str) -> int:
    print("cooking", dish)
    if "burnt" in dish:
        logger.warning("smoke from the %s", dish)
    return len(dish)


# printed in worker processes, caught here
with redirect_stdout(StringIO()) as printed:
    auto_map(cook, ["soup", "burnt rice"], backend="processes")

print("lines:", sorted(printed.getvalue().splitlines()))
