"""As `tests/sdk/test_interpreter.py`, in pods."""

from tests.sdk.test_interpreter import *  # noqa: F403 -- its tests, and the fixtures that it has of its own
