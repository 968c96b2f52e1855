from autopar import plan
from spelling import TYPED, correct

chosen = plan(correct, TYPED)
print(f"{chosen.backend}, {chosen.workers} workers: {chosen.because}")
for backend, seconds in chosen.predicted_s.items():
    print(f"{backend:>10} {seconds:.2f} s")
