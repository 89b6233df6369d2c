"""Puts Leveret into every interpreter that a suite starts: this folder is on its PYTHONPATH."""

import os

if os.environ.get("LEVERET_SUITE_INSTALL"):
    import leveret

    leveret.install()
