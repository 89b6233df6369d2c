"""Processes share a dictionary and a list through a manager."""

import multiprocessing

STOCK = {"apples": 10, "pears": 4, "plums": 0}
ORDERS = [
    ("Ada", "apples", 4),
    ("Ben", "pears", 3),
    ("Cleo", "plums", 1),
    ("Dan", "apples", 6),
    ("Eve", "pears", 2),
]


def serve(stock, refused, lock, orders):
    """Take what is ordered out of the stock, or note that there is too little."""
    for customer, fruit, wanted in orders:
        with lock:  # between looking and taking, nobody else may take
            if stock[fruit] >= wanted:
                stock[fruit] -= wanted
            else:
                refused.append(f"{customer}: {wanted} {fruit}")


if __name__ == "__main__":
    with multiprocessing.Manager() as manager:
        stock = manager.dict(STOCK)
        refused = manager.list()
        lock = manager.Lock()
        by_fruit = [[order for order in ORDERS if order[1] == fruit] for fruit in STOCK]
        clerks = [
            multiprocessing.Process(target=serve, args=(stock, refused, lock, orders))
            for orders in by_fruit
        ]
        for clerk in clerks:
            clerk.start()
        for clerk in clerks:
            clerk.join()
        print("left:", dict(sorted(stock.items())))
        print("refused:", *sorted(refused), sep="\n  ")
