"""`python -m leveret program.py`: the runner."""

from .cli import main

main()
