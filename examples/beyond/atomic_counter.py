"""Count from several processes without a lock: integers of 4 and 8 bytes have atomic operations.

Prints:
    40000
    handed out: 0 to 39999, each once
"""

import leveret


def draw(tickets, count, drawn):
    drawn.put_many(tickets.fetch_add(1) for _ in range(count))


if __name__ == "__main__":
    tickets, drawn = leveret.Value("q", 0), leveret.Queue()
    people = [leveret.Process(target=draw, args=(tickets, 10_000, drawn)) for _ in range(4)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    numbers = []
    while len(numbers) < 40_000:
        numbers += drawn.get_many()
    print(tickets.value)
    each_once = sorted(numbers) == list(range(40_000))
    print("handed out: 0 to 39999,", "each once" if each_once else "NOT each once")
