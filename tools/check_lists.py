"""Check that every C and Python file of the library is in its folder's meson.build."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("include/leveret", "src/base", "src/os", "src/core", "src/testing", "src/binding",
           "python/leveret", "python/leveret/popen", "examples/c", "bench/c")  # fmt: skip


def is_listed(file: pathlib.Path) -> bool:
    """In the nearest meson.build: popen/ is in the one of the package."""
    own = file.parent / "meson.build"
    lists = own if own.exists() else file.parent.parent / "meson.build"
    return f"'{file.relative_to(lists.parent)}'" in lists.read_text()


def main() -> int:
    missing = []
    for name in FOLDERS:
        folder = ROOT / name
        patterns = ("*.h",) if name.startswith("include") else ("*.c", "*.py", "*.pyi", "py.typed")
        files = sorted(f for pattern in patterns for f in folder.glob(pattern))
        missing += [file.relative_to(ROOT) for file in files if not is_listed(file)]
    for path in missing:
        print(f"{path} is in no meson.build")
    return bool(missing)


if __name__ == "__main__":
    sys.exit(main())
