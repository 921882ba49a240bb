"""Marks the plots of the gallery."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from .expected import Expected

Draw = Callable[[], "Expected | list[Expected]"]


@dataclass(frozen=True)
class Plot:
    """A plot: draws, and returns what must be reported, figure by figure."""

    draw: Draw
    oldest: dict[str, str]
    """The versions of packages that first have what it draws with."""

    @property
    def name(self) -> str:
        """What it is called in failures and on the contact sheet."""
        return self.draw.__name__

    def missing(self) -> str:
        """Return why it cannot be drawn here; nothing if it can."""
        for package, version in self.oldest.items():
            installed = importlib.import_module(package).__version__
            if _numbers(installed) < _numbers(version):
                return f"{package} {installed} is older than {version}"
        return ""


def plot(**oldest: str) -> Callable[[Draw], Plot]:
    """Make a plot of a function; `matplotlib="3.9"` says that it needs so new a version."""
    return lambda draw: Plot(draw, oldest)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]
