"""One executor, and calls with rules of their own: options() is a view that shares its workers.

Prints:
    fast: 42
    slow: stopped after 0.2 s
    the executor's own rules: 42
"""

import time

import leveret


def answer(seconds):
    time.sleep(seconds)
    return 42


if __name__ == "__main__":
    with leveret.ProcessPoolExecutor(2) as executor:
        strict_ones = executor.options(timeout=0.2, retries=1)
        fast, slow = strict_ones.submit(answer, 0), strict_ones.submit(answer, 60)
        print("fast:", fast.result())
        try:
            slow.result()
        except leveret.TaskTimeout:
            print("slow: stopped after 0.2 s")
        print("the executor's own rules:", executor.submit(answer, 0.3).result())
