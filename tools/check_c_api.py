"""Check that headers, list and library name the same public functions, and that each is explained.

    check_c_api.py LIBLEVERET_SO [--write]

tools/c_api.txt is the list: who adds or drops a function shows it there. --write makes it anew.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIST = ROOT / "tools" / "c_api.txt"


def declared() -> set[str]:
    """Functions that the headers mark LVR_API."""
    found = set()
    for header in (ROOT / "include" / "leveret").glob("*.h"):
        text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.DOTALL)
        for declaration in re.findall(r"^LVR_API\b[^;{]*", text, flags=re.MULTILINE):
            found |= set(re.findall(r"\b(\w+)\(", declaration.replace("__attribute__(", ""))[:1])
    return found


# Where else it may be said what a function returns.
ELSEWHERE = re.compile(r"Returns:|\b([Aa]s|[Ll]ike) (lvr_|th(at|ose) of)|the same")


def unexplained() -> tuple[set[str], set[str]]:
    """Functions that the comment above them does not name; codes that it says nothing of."""
    nameless, codes = set(), set()
    for header in (ROOT / "include" / "leveret").glob("*.h"):
        comment = ""
        for part in re.findall(r"/\*.*?\*/|^LVR_API\b[^;{]*", header.read_text(), re.M | re.S):
            if part.startswith("/*"):
                comment = re.sub(r"\s*\n \* *", " ", part)
                continue
            (name,) = re.findall(r"\b(\w+)\(", part)[:1]
            if not re.search(rf"\b{name}\b", comment):
                nameless.add(name)
            elif "LVR_MUST_CHECK" in part and not ELSEWHERE.search(comment):
                codes.add(name)
    return nameless, codes


def exported(library: str) -> set[str]:
    """Symbols that a program linked to the library can see."""
    command = ["nm", "--dynamic", "--defined-only", "--format=posix", library]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return {line.split()[0] for line in lines}


def complain(what: str, names: set[str]) -> bool:
    for name in sorted(names):
        print(f"{what}: {name}")
    return bool(names)


def main() -> int:
    library, write = sys.argv[1], "--write" in sys.argv
    symbols, functions = exported(library), declared()
    if write:
        LIST.write_text("".join(f"{name}\n" for name in sorted(functions)))
    nameless, codes = unexplained()
    listed = set(LIST.read_text().split())
    wrong = [
        complain("exported, but not lvr_*", {s for s in symbols if not s.startswith("lvr_")}),
        complain("in a header, not in the library", functions - symbols),
        complain("in the library, not in a header", symbols - functions),
        complain("public, not in tools/c_api.txt (see --write)", functions - listed),
        complain("in tools/c_api.txt, not public (see --write)", listed - functions),
        complain("in a header, without a comment that names it", nameless),
        complain("in a header, without a word on what it returns", codes),
    ]
    print(f"{len(symbols)} functions exported")
    return any(wrong)


if __name__ == "__main__":
    sys.exit(main())
