"""See how far a pool is: progress=True is a bar (with tqdm) or a line; here a function is told.

Prints:
    a quarter is done
    half is done
    three quarters are done
    all is done
    332833500
"""

import leveret

SAID = {1: "a quarter is done", 2: "half is done", 3: "three quarters are done", 4: "all is done"}


def square(number):
    return number * number


def tell(done, total):
    while said and done * 4 >= min(said) * total:
        print(said.pop(min(said)))


if __name__ == "__main__":
    said = dict(SAID)
    with leveret.Pool(2) as pool:
        print(sum(pool.imap_unordered(square, range(1000), progress=tell)))
