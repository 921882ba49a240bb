"""As `tests/sdk/test_session.py`, in pods."""

from tests.sdk.test_session import *  # noqa: F403 -- its tests, and the fixtures that it has of its own
