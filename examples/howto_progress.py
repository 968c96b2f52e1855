import sys
import time

from autopar import Report, auto_imap, auto_map


def fetch(number: int) -> int:
    time.sleep(0.01)
    return number * number


# a bar on stderr with the function's name, where somebody sees it; True would be anywhere
auto_map(fetch, range(200), kind="io", progress=sys.stderr.isatty())


# or whatever you make of it
def tell(done: int, total: int | None, report: Report) -> None:
    if done == total:
        print(f"{report.function}: all {done} done, on {report.backend}")


auto_map(fetch, range(200), kind="io", progress=tell)

for square in auto_imap(fetch, range(100), progress=tell):
    if square > 1000:
        print("enough")  # and the rest is never told of
        break
