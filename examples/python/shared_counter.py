"""Several processes count in one shared number, under its lock."""

import multiprocessing

PROCESSES = 4
ROUNDS = 5_000


def count(counter):
    """Add one, ROUNDS times. `+=` reads and writes: without the lock, counts would get lost."""
    for _ in range(ROUNDS):
        with counter.get_lock():
            counter.value += 1


if __name__ == "__main__":
    counter = multiprocessing.Value("i", 0)
    processes = [multiprocessing.Process(target=count, args=(counter,)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print(f"{PROCESSES} processes counted to {counter.value}")
