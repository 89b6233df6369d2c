"""A library that crashes now and then: a task whose worker died is run again, at most three times.

Prints:
    [0, 1, 4, 9, 16, 25, 36, 49]
    the first attempt at 5 died: True
"""

import os
import pathlib
import tempfile

import leveret


def square(number, crashes):
    if number == 5 and not crashes.exists():
        crashes.touch()
        os.abort()  # a bug in a C library, say
    return number * number


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        crashes = pathlib.Path(folder, "crashed")
        with leveret.Pool(2, retries=3) as pool:
            print(pool.starmap(square, [(number, crashes) for number in range(8)]))
        print("the first attempt at 5 died:", crashes.exists())
