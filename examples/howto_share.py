import autopar

total = autopar.Value("q", 0)
longest = autopar.Array("c", 100)


def look_at(word: str) -> None:
    total.add(len(word))
    with longest:
        if len(word) > len(longest.value):
            longest.value = word.encode()


if __name__ == "__main__":
    words = ["thread", "process", "interpreter", "fork"] * 100
    autopar.auto_map(look_at, words, backend="processes")
    print(total.value, longest.value.decode())
