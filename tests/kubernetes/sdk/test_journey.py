"""As `tests/sdk/test_journey.py`, in pods."""

from tests.sdk.test_journey import test_journey

__all__ = ["test_journey"]
