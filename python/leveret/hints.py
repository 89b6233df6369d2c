"""What the names of `typing` in our annotations stand for when somebody evaluates them.

To import `typing` takes longer than to import all that most programs use of this package. Who
evaluates annotations has imported it, as a rule before us: then these are its names. If not,
`object` says of an argument or a result all that they say to a running program.
"""

import sys

__all__ = ["Any", "Never", "NoReturn", "SupportsIndex"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Never, NoReturn, SupportsIndex
else:
    _typing = sys.modules.get("typing")
    Any = getattr(_typing, "Any", object)
    Never = getattr(_typing, "Never", object)
    NoReturn = getattr(_typing, "NoReturn", object)
    SupportsIndex = getattr(_typing, "SupportsIndex", object)
