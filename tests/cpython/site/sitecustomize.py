"""Puts Leveret into every interpreter that a suite starts (the suite runner has this folder on PYTHONPATH)."""

import os

if os.environ.get("LEVERET_SUITE_INSTALL"):
    import leveret

    leveret.install()
