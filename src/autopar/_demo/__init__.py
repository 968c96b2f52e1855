"""Five workloads that every machine has, for `python -m autopar demo`."""
