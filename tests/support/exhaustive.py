"""What `make test` leaves out or makes shorter, and `make test-exhaustive` runs in full.

Tests marked `slow` are left out too; `make test-slow` runs them, and so does the gate.
"""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings

EXPRESSIONS = "not slow and not exhaustive", "slow and not exhaustive"  # -m, in the Makefile
QUICK_SHARE = 10  # one drawn case of so many

quick = False  # set by conftest.py before any test is imported


def exhaustive(value: Any, **options: Any) -> Any:
    """Mark one value of a parameter: its tests are left out of `make test`."""
    return pytest.param(value, marks=pytest.mark.exhaustive, **options)


def explore(cases: int) -> Callable[[Any], Any]:
    """Have Hypothesis draw so many cases, and in `make test` fewer."""

    def decorate(test: Any) -> Any:
        drawn = settings(max_examples=cases // QUICK_SHARE if quick else cases)(test)
        return pytest.mark.explores(drawn)

    return decorate
