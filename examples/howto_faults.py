import os
import signal
import time

from autopar import TaskTimeout, WorkerCrashed, auto_map


def handle(order: str) -> str:
    """Stands for work that goes wrong in every way."""
    if order == "stone":
        time.sleep(3600)
    if order == "bomb":
        os.kill(os.getpid(), signal.SIGKILL)  # as the system does when memory runs out
    if order == "soup":
        raise ValueError("sold out")
    return order.upper()


orders = ["tea", "stone", "milk", "bomb", "soup", "jam"]
answers = auto_map(handle, orders, backend="processes", timeout=0.5, retries=1, errors="return")

for order, answer in zip(orders, answers):
    match answer:
        case TaskTimeout():
            print(f"{order}: not done within {answer.timeout} s")
        case WorkerCrashed():
            print(f"{order}: its process died, exit code {answer.exitcode}")
        case Exception():
            print(f"{order}: {type(answer).__name__}: {answer}")
        case _:
            print(f"{order}: {answer}")
