"""The ways in which figures are finished: each is reported once, in its order."""

import io
import os
import pickle
import tempfile

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from .expected import Expected, bar, bars, bins, box, boxes, composite, line, points
from .plot import plot


def drawn(title: str) -> Expected:
    """Draw a line into the current figure."""
    plt.plot([0, 1], [1, 2], label=title)
    plt.title(title)
    return line(points(title, [0, 1], [1, 2]), title=title)


@plot()
def shown_one_by_one() -> list[Expected]:
    found = []
    for title in ("first", "second"):
        plt.figure()
        found.append(drawn(title))
        plt.show()
    return found


@plot()
def shown_together_in_the_order_of_numbers() -> list[Expected]:
    found = {}
    for number in (7, 3, 5):
        plt.figure(number)
        found[number] = drawn(str(number))
    plt.show()
    return [found[number] for number in sorted(found)]


@plot()
def saved_and_closed() -> Expected:
    expected = drawn("saved")
    plt.savefig(io.BytesIO())
    plt.close()
    return expected


@plot()
def saved_in_several_forms_then_shown() -> Expected:
    expected = drawn("saved twice")
    with tempfile.TemporaryDirectory() as directory:
        for form in ("pdf", "svg", "png"):
            plt.savefig(os.path.join(directory, f"figure.{form}"))  # noqa: PTH118 -- as people write it
    plt.show()
    return expected


@plot()
def saved_and_cleared_in_a_loop() -> list[Expected]:
    found = []
    for title in ("a", "b", "c"):
        found.append(drawn(title))
        plt.savefig(io.BytesIO())
        plt.clf()
    plt.close()
    return found


@plot()
def thrown_away() -> list[Expected]:
    plt.plot([1, 2])
    plt.close("all")
    return []


@plot()
def shown_without_waiting() -> Expected:
    expected = drawn("not blocked")
    plt.show(block=False)
    plt.pause(0.001)
    plt.close()
    return expected


@plot()
def shown_by_its_method() -> Expected:
    figure, ax = plt.subplots()
    ax.bar(["x"], [1])
    figure.show()
    return bar(bars("x", [1]), x_scale="categorical")


@plot()
def changed_after_it_was_saved() -> Expected:
    plt.plot([0, 1], [1, 2], label="early")
    plt.savefig(io.BytesIO())
    plt.plot([0, 1], [2, 3], label="late")
    plt.show()
    return line(points("early", [0, 1], [1, 2]), points("late", [0, 1], [2, 3]))


@plot()
def drawn_within_a_style() -> Expected:
    with plt.ioff(), plt.rc_context({"axes.titlesize": 20, "savefig.dpi": 300}):
        expected = drawn("styled")
        plt.show()
    return expected


@plot()
def pickled_and_loaded() -> list[Expected]:
    plt.boxplot([1, 2, 3, 4, 5])
    plt.hist([1, 2, 2], bins=[1, 2, 3], histtype="step", label="counts")
    pickle.loads(pickle.dumps(plt.gcf()))  # opens it in pyplot
    plt.show()
    parts = bar(bins([1, 2], [1, 2, 3], "counts")), boxes(box("1", [1, 2, 3, 4, 5]))
    return [composite(*parts)] * 2


@plot()
def never_shown() -> list[Expected]:
    """Leave open figures, one of them without pyplot, and an empty one."""
    outside = Figure()
    outside.subplots().plot([5, 6], label="outside")
    outside.savefig(io.BytesIO())
    first = drawn("open")
    plt.figure()
    plt.figure()
    second = drawn("open too")
    return [line(points("outside", [0, 1], [5, 6])), first, second]
