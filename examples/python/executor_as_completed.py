"""Submit tasks to an executor, take results as they complete, and see errors where they belong."""

import concurrent.futures


def parse(line):
    """The sum of the numbers in a line."""
    return sum(float(field) for field in line.split(","))


if __name__ == "__main__":
    lines = ["1,2,3", "10,20", "7", "4,four", "0.5,0.25"]
    results = {}
    with concurrent.futures.ProcessPoolExecutor(max_workers=2) as executor:
        numbers = {executor.submit(parse, line): number for number, line in enumerate(lines, 1)}
        for future in concurrent.futures.as_completed(numbers):
            try:
                results[numbers[future]] = f"{future.result():g}"
            except ValueError as error:
                results[numbers[future]] = f"bad line: {error}"
    for number, result in sorted(results.items()):
        print(f"line {number}: {result}")
