from autopar import auto_map
from spelling import TYPED, correct

typed = [*TYPED[:10], "xqzwvk", *TYPED[10:20]]

try:
    auto_map(correct, typed)
except LookupError as error:
    print(f"{type(error).__name__}: {error}")
    print("\n".join(error.__notes__))

answers = auto_map(correct, typed, errors="return")
failed = [word for word, answer in zip(typed, answers) if isinstance(answer, LookupError)]
print(f"{len(answers)} answers, nothing found for {failed}")
