"""As `tests/sdk/test_pty.py`, in pods."""

from tests.sdk.test_pty import *  # noqa: F403 -- its tests, and the fixtures that it has of its own
