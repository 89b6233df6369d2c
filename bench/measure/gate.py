"""Where the processes of a sample meet, and where they write down when they were done.

    parent                  worker 0 ... n
      |        <- ready ->    |               each in a word of its own
      |  --- the start --->   |               a moment a little ahead, so that all know it in time
      |                       *  works
      |  <--- its end ---     |

A mapped file of 8-byte words and nothing else: the same on both sides, whatever is measured.
"""

import mmap
import time
from typing import Any

LEAD_NS = 20_000_000
LOOK_S = 0.001
PATIENCE_S = 60.0
HEAD = 1  # words before those of the workers


class Gate:
    def __init__(self, path: str, workers: int) -> None:
        self.path, self.workers = path, workers
        with open(path, "wb") as file:
            file.truncate(8 * (HEAD + 2 * workers))

    def words(self) -> memoryview:
        """The start; then each worker's ready; then each worker's end."""
        with open(self.path, "r+b") as file:
            return memoryview(mmap.mmap(file.fileno(), 0)).cast("q")

    def pass_through(self, worker: int) -> None:
        """Say that this worker is ready, and sleep until the start."""
        words = self.words()
        words[HEAD + worker] = 1
        while not words[0]:
            time.sleep(LOOK_S)
        time.sleep(max(0, words[0] - time.monotonic_ns()) / 1e9)

    def finish(self, worker: int) -> None:
        self.note(worker, time.monotonic_ns())

    def note(self, worker: int, value: int) -> None:
        self.words()[HEAD + self.workers + worker] = value

    def wait_for_one(self) -> None:
        """Until one that receives has all."""
        words = self.words()
        while not any(words[HEAD + self.workers :]):
            time.sleep(LOOK_S)

    def open_for(self, processes: list[Any]) -> int:
        """Wait until all are ready; the moment at which they start."""
        words = self.words()
        end = time.monotonic() + PATIENCE_S
        while not all(words[HEAD : HEAD + self.workers]):
            if time.monotonic() > end or any(p.exitcode for p in processes):
                raise RuntimeError("a worker did not get ready")
            time.sleep(LOOK_S)
        words[0] = time.monotonic_ns() + LEAD_NS
        return words[0]

    def last(self) -> int:
        """When the last of those who said so had finished."""
        return max(self.words()[HEAD + self.workers :])
