"""One photo of ten kills the process that converts it: the other nine are converted all the same.

Prints:
    photo 3: worker killed by SIGKILL
    9 of 10 converted
"""

import os
import signal

import leveret


def convert(photo):
    if photo == 3:
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory is short
    return f"{photo}.jpg"


if __name__ == "__main__":
    with leveret.ProcessPoolExecutor(max_workers=2) as executor:
        futures = [executor.submit(convert, photo) for photo in range(10)]
    converted = 0
    for photo, future in enumerate(futures):
        try:
            future.result()
            converted += 1
        except leveret.WorkerDied as death:
            print(f"photo {photo}: worker killed by {death.signal.name}")
    print(f"{converted} of {len(futures)} converted")
