"""Spread one function over many inputs: count the primes of each range of ten thousand numbers."""

import math
import multiprocessing

STEP = 10_000


def count_primes(start):
    """How many primes there are in range(start, start + STEP)."""
    return sum(is_prime(number) for number in range(start, start + STEP))


def is_prime(number):
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


if __name__ == "__main__":
    starts = range(0, 100_000, STEP)
    with multiprocessing.Pool() as pool:
        counts = pool.map(count_primes, starts)
    for start, count in zip(starts, counts, strict=True):
        print(f"{start:6} to {start + STEP - 1:6}: {count:5} primes")
    print(f"all: {sum(counts)}")
