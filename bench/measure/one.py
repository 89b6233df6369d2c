"""Measures one work on one side and prints its samples, in nanoseconds, as JSON.

    PYTHONPATH=. python -P bench/measure/one.py WORK {std,ours,RIVAL} METHOD SECONDS

A process of its own each time, so that neither side ever sees the other's module. What its children
run is there when this is imported, as in a program that defines it; what measures is not.
"""

from bench import targets

__all__ = ["targets"]

if __name__ == "__main__":
    from bench.measure import works

    works.main()
