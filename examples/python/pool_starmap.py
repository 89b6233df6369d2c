"""A function of several arguments: how a sum of money grows under different conditions."""

import itertools
import multiprocessing


def grow(amount, percent, years):
    """AMOUNT after YEARS at PERCENT interest, in whole cents each year."""
    for _ in range(years):
        amount = round(amount * (1 + percent / 100), 2)
    return amount


if __name__ == "__main__":
    conditions = list(itertools.product((1000.0,), (1, 2, 4), (10, 20)))
    with multiprocessing.Pool(2) as pool:
        results = pool.starmap(grow, conditions)
    for (amount, percent, years), result in zip(conditions, results, strict=True):
        print(f"{amount:.2f} at {percent} % for {years} years: {result:.2f}")
