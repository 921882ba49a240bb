"""As `tests/sdk/test_git.py`, in pods; but for the errors of which one is that of a directory of this machine."""

from tests.sdk.test_git import (
    test_clone_of_a_commit,
    test_configuration,
    test_from_clone_to_push,
    test_own_repository,
)

__all__ = ["test_clone_of_a_commit", "test_configuration", "test_from_clone_to_push", "test_own_repository"]
