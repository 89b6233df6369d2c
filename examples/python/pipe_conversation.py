"""Two processes talk over a pipe: one asks, the other answers, until there is nothing to ask."""

import multiprocessing

OPERATIONS = {
    "add": lambda a, b: a + b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
}


def calculate(connection):
    """Answer questions until there is none; an error is an answer too."""
    while (question := connection.recv()) is not None:
        name, a, b = question
        try:
            connection.send(OPERATIONS[name](a, b))
        except (KeyError, ZeroDivisionError) as error:
            connection.send(error)


if __name__ == "__main__":
    ours, theirs = multiprocessing.Pipe()
    calculator = multiprocessing.Process(target=calculate, args=(theirs,))
    calculator.start()
    for question in [("add", 2, 3), ("multiply", 6, 7), ("divide", 1, 0), ("guess", 1, 2)]:
        ours.send(question)
        print(*question, "->", repr(ours.recv()))
    ours.send(None)
    calculator.join()
    print("the calculator ended with status", calculator.exitcode)
