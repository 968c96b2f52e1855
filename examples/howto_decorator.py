"""A function that is called as ever, and can be mapped."""

import time

from autopar import parallel


@parallel(kind="io")
def answer(question):
    """Takes a while."""
    time.sleep(0.05)
    return len(question)


print(answer("why?"))
print(answer.map(["who?", "where?", "how?"]))
print(answer.map(["who?", None], errors="return", workers=2))

for length in answer.imap(["here", "and there"]):
    print(length)

later = answer.submit("when?")
print(later.result())
