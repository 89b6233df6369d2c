"""Start a few processes, wait for all of them, and look at how each one ended."""

import multiprocessing
import sys


def inspect(order):
    """Check one order; a process's status is what it passes to sys.exit()."""
    if order["amount"] <= 0:
        sys.exit(3)


if __name__ == "__main__":
    orders = [{"number": 1, "amount": 20}, {"number": 2, "amount": -3}, {"number": 3, "amount": 12}]
    processes = [
        multiprocessing.Process(target=inspect, args=(order,), name=f"order {order['number']}")
        for order in orders
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        verdict = "accepted" if process.exitcode == 0 else "refused"
        print(f"{process.name}: {verdict} (status {process.exitcode})")
