import os
import signal
import warnings

import autopar

lock = autopar.Lock()
begun, done = autopar.Value("i"), autopar.Value("i")


def repair() -> None:
    if lock.owner_died:
        print("an owner died in the middle:", begun.value, "begun,", done.value, "done")
        done.value = begun.value


def change(item: int) -> None:
    with lock:
        repair()
        begun.value += 1
        if item == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        done.value += 1


if __name__ == "__main__":
    warnings.simplefilter("ignore", autopar.OwnerDied)
    autopar.auto_map(change, range(8), backend="processes", workers=2, errors="return")
    with lock:  # it may have been the last to have it
        repair()
        print(begun.value, "begun,", done.value, "done")
