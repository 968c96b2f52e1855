"""Price a European call option by simulation, and compare with the formula.

Each batch has its own seed, so the answer does not depend on who computes which batch. Pure Python
arithmetic holds the GIL: this is work for several processes.

    python monte_carlo.py [--batches N]
"""

import argparse
import sys
from math import exp, log, sqrt
from random import Random
from statistics import NormalDist, fmean, stdev

from autopar import auto_map, observe

SPOT, STRIKE, RATE, VOLATILITY, YEARS = 100.0, 105.0, 0.03, 0.2, 1.0
PATHS_A_BATCH = 20_000


def price_of_batch(seed: int) -> float:
    """The discounted mean payoff over one batch of simulated prices at maturity."""
    gauss = Random(seed).gauss
    drift = (RATE - VOLATILITY**2 / 2) * YEARS
    spread = VOLATILITY * sqrt(YEARS)
    payoffs = (
        max(SPOT * exp(drift + spread * gauss(0, 1)) - STRIKE, 0) for _ in range(PATHS_A_BATCH)
    )
    return exp(-RATE * YEARS) * sum(payoffs) / PATHS_A_BATCH


def black_scholes() -> float:
    spread = VOLATILITY * sqrt(YEARS)
    d1 = (log(SPOT / STRIKE) + (RATE + VOLATILITY**2 / 2) * YEARS) / spread
    share = NormalDist().cdf
    return SPOT * share(d1) - STRIKE * exp(-RATE * YEARS) * share(d1 - spread)


def main() -> None:
    parser = argparse.ArgumentParser(description="Price an option by simulation.")
    parser.add_argument("--batches", type=int, default=60)
    options = parser.parse_args()

    seeds = range(options.batches)
    with observe() as seen:
        prices = auto_map(price_of_batch, seeds)

    error = stdev(prices) / sqrt(len(prices))
    print(f"simulated {fmean(prices):.3f} ± {error:.3f}, formula {black_scholes():.3f}")
    print(f"{seen.reports[0].backend}: {seen.reports[0].because}")
    if prices != [price_of_batch(seed) for seed in seeds]:
        sys.exit("this is not what the plain loop gives")
    print("same as the plain loop")


if __name__ == "__main__":
    main()
