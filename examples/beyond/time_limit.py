"""Two seconds for each task; who takes longer is stopped, and its worker is free for the next one.

Prints:
    17 is prime
    91 is not prime
    2305843009213693951: no answer in time
    97 is prime
"""

import leveret


def is_prime(number):
    return all(number % divisor for divisor in range(2, int(number**0.5) + 1))


if __name__ == "__main__":
    numbers = [17, 91, 2**61 - 1, 97]
    with leveret.Pool(2, timeout=2) as pool:
        results = [pool.apply_async(is_prime, (number,)) for number in numbers]
        for number, result in zip(numbers, results, strict=True):
            try:
                print(f"{number} is {'' if result.get() else 'not '}prime")
            except leveret.TaskTimeout:
                print(f"{number}: no answer in time")
