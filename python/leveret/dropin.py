"""install(): ours becomes the default of `multiprocessing` and `concurrent.futures`.

    multiprocessing.Lock, .Process, ...      bound methods of the standard default context
    multiprocessing.context._default_context becomes ours in place: whoever holds it, or a method of it, has ours
    multiprocessing.synchronize.Lock, ...    names of the submodules, re-bound when each is imported

Modules imported before see it as well as those imported after. A child is told by `state()`, which travels
with its preparation data, and calls `restore()` before it imports the program's main module. Programs that
are started by `subprocess` are not told, and are not changed.
"""

__all__ = ["install", "installed", "restore", "state"]
