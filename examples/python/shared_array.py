"""Each process smooths its part of one shared array; nothing is copied between them."""

import multiprocessing

LENGTH = 12
PARTS = 3


def smooth(readings, smoothed, start, stop):
    """Write the mean of each reading and its neighbours."""
    for i in range(start, stop):
        window = readings[max(0, i - 1) : i + 2]
        smoothed[i] = sum(window) / len(window)


if __name__ == "__main__":
    readings = multiprocessing.Array("d", [float(i % 4 * 3) for i in range(LENGTH)], lock=False)
    smoothed = multiprocessing.Array("d", LENGTH, lock=False)
    size = LENGTH // PARTS
    processes = [
        multiprocessing.Process(target=smooth, args=(readings, smoothed, start, start + size))
        for start in range(0, LENGTH, size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print("read:    ", *(f"{value:5.2f}" for value in readings))
    print("smoothed:", *(f"{value:5.2f}" for value in smoothed))
