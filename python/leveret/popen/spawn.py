"""Births by spawn: the standard library's, joined to the session."""

from multiprocessing import popen_spawn_posix

from .ticket import Boarding

__all__ = ["Popen"]


class Popen(Boarding, popen_spawn_posix.Popen):
    """A child process that is a fresh interpreter."""
