"""Check that every C and Python file of the library is in its folder's meson.build."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("include/leveret", "src/base", "src/os", "src/core", "src/testing", "src/binding",
           "python/leveret", "python/leveret/popen", "examples/c", "bench/c")  # fmt: skip


def lists_of(folder: pathlib.Path) -> str:
    """The nearest meson.build: popen/ is in the one of the package."""
    own = folder / "meson.build"
    return (own if own.exists() else folder.parent / "meson.build").read_text()


def main() -> int:
    missing = []
    for name in FOLDERS:
        folder = ROOT / name
        patterns = ("*.h",) if name.startswith("include") else ("*.c", "*.py", "*.pyi", "py.typed")
        for file in sorted(f for pattern in patterns for f in folder.glob(pattern)):
            if f"'{file.name}'" not in lists_of(folder):
                missing.append(file.relative_to(ROOT))
    for path in missing:
        print(f"{path} is in no meson.build")
    return bool(missing)


if __name__ == "__main__":
    sys.exit(main())
