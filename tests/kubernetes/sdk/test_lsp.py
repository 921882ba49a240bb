"""As `tests/sdk/test_lsp.py`, in pods."""

from tests.sdk.test_lsp import *  # noqa: F403 -- its tests, and the fixtures that it has of its own
