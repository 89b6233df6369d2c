"""Run libFuzzer over the decoder; the arguments are libFuzzer's. `make fuzz` builds what it needs.

python fuzz/decode.py --seeds FOLDER     write the corpus that the tree has
python fuzz/decode.py [ARGUMENT ...]     fuzz
"""

import ctypes
import pathlib
import sys
from typing import Any

from leveret import _core

SEEDS: list[Any] = [
    None,
    [True, False, 0, 127, 128, -1, 1 << 20, 1 << 40, -(1 << 63), 1 << 100, -(10**30)],
    [1.5, -0.0, float("nan")],
    ["", "a", "word", "x" * 40, "\xe9", "\xff\xfe", "\u20ac\ud800", "\U0001f600a"],
    [b"", b"bytes", bytearray(b"array"), b"z" * 300],
    [(), (1, (2, (3,))), [], [[[]]], {}, {"k": {"l": (1, "m")}}],
    {(1, ("deep", None)): 1, None: 2, True: 3, 2.5: 4, b"k": 5, "s": 6},
    list(range(20)),
    {i: str(i) for i in range(20)},
    [word := "again and again", {word: word}, (pair := (1, word)), pair, [pair]],
]
DAMAGED = [
    "e0ffffffffffffffffff",
    "b281616e200",
    "c200000000",
    "b2a100c1e20000",
    "e44e2e0001000200",
    "e40100000001000000",
    "fdfdfd",
    "db02ff006100",
]


def write_seeds(folder: pathlib.Path) -> None:
    streams = [_core.encode(obj)[0] for obj in SEEDS]
    streams += [bytes.fromhex(text[: len(text) // 2 * 2]) for text in DAMAGED]
    for number, stream in enumerate(streams):
        (folder / f"{number:02}").write_bytes(stream)


def main() -> int:
    if sys.argv[1:2] == ["--seeds"]:
        write_seeds(pathlib.Path(sys.argv[2]))
        return 0
    run = ctypes.PyDLL(_core.__file__).lvri_fuzz_decode
    run.argtypes = [ctypes.py_object, ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)]
    words = [word.encode() for word in ["fuzz", *sys.argv[1:]]]
    result: int = run(_core, len(words), (ctypes.c_char_p * (len(words) + 1))(*words, None))
    return result


if __name__ == "__main__":
    sys.exit(main())
