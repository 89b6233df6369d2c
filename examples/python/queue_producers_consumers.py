"""Producers put words into one queue, consumers count them, another queue brings the counts."""

import collections
import multiprocessing

TEXTS = [
    "the quick brown fox jumps over the lazy dog",
    "the hare and the tortoise ran and the hare slept",
    "a leveret is a young hare and the hare is quick",
]
CONSUMERS = 2


def produce(text, words):
    """Put each word of a text into the queue."""
    for word in text.split():
        words.put(word)


def consume(words, counts):
    """Count words until told that there are no more."""
    count = collections.Counter()
    while (word := words.get()) is not None:
        count[word] += 1
    counts.put(count)


if __name__ == "__main__":
    words = multiprocessing.Queue(maxsize=10)
    counts = multiprocessing.Queue()
    producers = [multiprocessing.Process(target=produce, args=(text, words)) for text in TEXTS]
    consumers = [
        multiprocessing.Process(target=consume, args=(words, counts)) for _ in range(CONSUMERS)
    ]
    for process in producers + consumers:
        process.start()
    for process in producers:
        process.join()
    for _ in consumers:
        words.put(None)

    total = collections.Counter()
    for _ in consumers:
        total += counts.get()
    for process in consumers:
        process.join()
    for word, count in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:5]:
        print(f"{word:6} {count}")
