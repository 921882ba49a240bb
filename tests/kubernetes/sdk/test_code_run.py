"""As `tests/sdk/test_code_run.py`, in pods."""

from tests.sdk.test_code_run import *  # noqa: F403 -- its tests, and the fixtures that it has of its own
