"""A control plane, as its own tests have it."""

from tests.controlplane.conftest import plane

__all__ = ["plane"]
