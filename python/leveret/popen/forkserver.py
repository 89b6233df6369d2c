"""Births by forkserver: the standard library's, joined to the session."""

from multiprocessing import popen_forkserver

from .ticket import Boarding

__all__ = ["Popen"]


class Popen(Boarding, popen_forkserver.Popen):
    """A child process of the standard fork server."""
