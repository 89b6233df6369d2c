"""Leveret beside the standard library, on the same Python, in the same run: `python -m bench`."""
