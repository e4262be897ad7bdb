"""Markers for tests that `make test` skips or shortens, and `make test-exhaustive` runs in full.

Tests marked `slow` are skipped, too; `make test-slow` and the gate run them.
"""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings

EXPRESSIONS = "not slow and not exhaustive", "slow and not exhaustive"  # -m, in the Makefile
QUICK_SHARE = 10  # the divisor of the number of drawn cases

quick = False  # set by conftest.py before any test is imported


def exhaustive(value: Any, **options: Any) -> Any:
    """Mark one value of a parameter, whose tests `make test` skips."""
    return pytest.param(value, marks=pytest.mark.exhaustive, **options)


def explore(cases: int) -> Callable[[Any], Any]:
    """Return a decorator: Hypothesis draws `cases` examples, and fewer in `make test`."""

    def decorate(test: Any) -> Any:
        drawn = settings(max_examples=cases // QUICK_SHARE if quick else cases)(test)
        return pytest.mark.explores(drawn)

    return decorate
