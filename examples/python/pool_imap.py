"""Take results as they come, in order, while the rest is still being computed."""

import hashlib
import multiprocessing


def chapters():
    """The chapters of a book, one at a time."""
    for number in range(1, 9):
        yield number, f"This is what chapter {number} has to say. " * (2000 * number)


def digest(chapter):
    """The chapter's number, length and a short digest of its text."""
    number, text = chapter
    return number, len(text), hashlib.sha256(text.encode()).hexdigest()[:12]


if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        for number, length, code in pool.imap(digest, chapters()):
            print(f"chapter {number}: {length:6} characters, {code}")

        longest = max(
            pool.imap_unordered(digest, chapters(), chunksize=2), key=lambda found: found[1]
        )
        print(f"the longest is chapter {longest[0]}")
