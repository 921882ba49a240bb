"""What came out, for people (Markdown) and programs (JSON)."""

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Budget:
    """A figure and the most (or least) it may be. `binding`: to exceed it is a failure."""

    name: str
    figure: float
    unit: str
    limit: float
    at_least: bool = False
    binding: bool = True

    @property
    def held(self) -> bool:
        """Whether the figure is within its limit."""
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit


class Report:
    """Budgets and what went wrong, as they come in; each is printed at once."""

    def __init__(self) -> None:
        self.budgets: list[Budget] = []
        self.wrong: list[str] = []
        self.details: dict[str, Any] = {"machine": f"{os.cpu_count()} CPUs, {platform.platform()}"}

    def add(self, budget: Budget) -> None:
        """Note a figure."""
        self.budgets.append(budget)
        print(f"   {_line(budget)}", flush=True)

    @property
    def failures(self) -> list[str]:
        """What makes the run a failure."""
        return [*self.wrong, *(_line(each) for each in self.budgets if each.binding and not each.held)]

    def write(self, directory: Path) -> None:
        """Write `stress.json` and `stress.md`."""
        directory.mkdir(parents=True, exist_ok=True)
        budgets = [asdict(each) | {"held": each.held} for each in self.budgets]
        answer = {**self.details, "budgets": budgets, "wrong": self.wrong}
        (directory / "stress.json").write_text(json.dumps(answer, indent=2) + "\n")
        rows = [
            f"| {each.name} | {_number(each.figure)} {each.unit} | {_limit(each)} | {_verdict(each)} |"
            for each in self.budgets
        ]
        lines = ["# Stress", "", *(f"- {name}: {value}" for name, value in self.details.items()), ""]
        lines += ["| budget | measured | limit | |", "| --- | --- | --- | --- |", *rows, ""]
        lines += ["```", *self.wrong, "```"] if self.wrong else ["Nothing was wrong."]
        (directory / "stress.md").write_text("\n".join(lines) + "\n")


def _line(budget: Budget) -> str:
    return f"{budget.name}: {_number(budget.figure)} {budget.unit} ({_limit(budget)}): {_verdict(budget)}"


def _limit(budget: Budget) -> str:
    return f"{'≥' if budget.at_least else '≤'} {_number(budget.limit)}"


def _verdict(budget: Budget) -> str:
    if budget.held:
        return "held"
    return "NOT HELD" if budget.binding else "not held (not binding here)"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
