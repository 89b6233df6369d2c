"""The works: each topic has a module, and says in WORKS by which names it can be asked for."""
