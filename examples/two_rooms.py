"""One program on threads and on processes: workers count the words of texts."""

from types import ModuleType

from autopar import abc, processes, threads

TEXTS = ["to be or not to be", "that is the question", "to sleep no more"]


def read(texts: abc.Queue[str | None], lock: abc.Lock, words: abc.Value[int]) -> int:
    """Adds the texts' words to `words`; how many texts this worker has read."""
    done = 0
    for text in iter(texts.get, None):
        with lock:
            words.value += len(text.split())
        done += 1
    return done


def count(room: ModuleType) -> str:
    """What two workers of the room find."""
    texts, lock, words = room.Queue(), room.Lock(), room.Value("i", 0)
    workers = [room.Worker(target=read, args=(texts, lock, words)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for text in [*TEXTS, *(None for _ in workers)]:
        texts.put(text)
    done = sum(worker.result() for worker in workers)
    return f"{done} texts, {words.value} words"


if __name__ == "__main__":
    for room in (threads, processes):
        print(f"{room.__name__}: {count(room)}")
