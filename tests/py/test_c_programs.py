"""Every C test program, one Python test each, so that one summary line closes all tests.

`make test` builds them and says where they are in LEVERET_C_BUILD.
"""

import json
import os
import pathlib
import subprocess
from typing import Any

import pytest

SPARE_S = 20  # beyond the program's own timeout: pytest-timeout is only the last resort


def programs() -> list[Any]:
    build = os.environ.get("LEVERET_C_BUILD")
    if not build:
        return []
    tests = json.loads(pathlib.Path(build, "meson-info", "intro-tests.json").read_text())
    return [
        pytest.param(t, id=t["name"], marks=pytest.mark.timeout(t["timeout"] + SPARE_S))
        for t in tests
    ]


@pytest.mark.parametrize("test", programs())
def test_c_program(test: dict[str, Any]) -> None:
    try:
        done = subprocess.run(
            test["cmd"],
            check=False,
            env={**os.environ, **test["env"]},
            cwd=test["workdir"],
            timeout=test["timeout"],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"still running after {test['timeout']} s:\n{late.output!r}", pytrace=False)
    if done.returncode == 77:
        pytest.skip(done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "skipped")
    if done.returncode:
        pytest.fail(f"status {done.returncode}:\n{done.stdout}", pytrace=False)
