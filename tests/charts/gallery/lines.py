"""Lines, and the axes below them."""

import numpy as np
from matplotlib import pyplot as plt
from matplotlib import ticker

from .expected import Expected, composite, line, points
from .plot import plot

T = np.linspace(0, 2, 41)


@plot()
def titled_line() -> Expected:
    volts = 1 + np.sin(2 * np.pi * T)
    _, ax = plt.subplots()
    ax.plot(T, volts, label="signal")
    ax.set(xlabel="time (s)", ylabel="voltage (mV)", title="About as simple as it gets")
    ax.grid()
    ax.legend()
    labels = {"title": "About as simple as it gets", "x_label": "time (s)", "y_label": "voltage (mV)"}
    return line(points("signal", T, volts), **labels)


@plot()
def only_y() -> Expected:
    plt.plot([3, 1, 4, 1, 5])
    return line(points("_child0", range(5), [3, 1, 4, 1, 5]))


@plot()
def several_lines_with_styles() -> Expected:
    plt.plot(T, T, "r--", T, T**2, "bs", T, T**3, "g^-")
    return line(*(points(f"_child{n}", T, T ** (n + 1)) for n in range(3)))


@plot()
def columns_of_a_matrix() -> Expected:
    walks = np.random.default_rng(1).normal(size=(30, 3)).cumsum(axis=0)
    plt.plot(walks, label=["a", "b", "c"])
    plt.legend()
    return line(*(points(name, range(30), walks[:, n]) for n, name in enumerate("abc")))


@plot()
def names_in_a_dict() -> Expected:
    data = {"when": [1, 2, 4], "what": [2.5, 0.1, -3]}
    plt.plot("when", "what", data=data)
    return line(points("what", data["when"], data["what"]))


@plot()
def steps() -> Expected:
    x = np.arange(6)
    y = np.sin(x)
    for n, where in enumerate(("pre", "mid", "post")):
        plt.step(x, y + n, where=where, label=where)
    plt.plot(x, y + 3, drawstyle="steps-post", label="style")
    plt.legend()
    return line(*(points(name, x, y + n) for n, name in enumerate(("pre", "mid", "post", "style"))))


@plot()
def semilog_y() -> Expected:
    x = np.arange(5)
    plt.semilogy(x, 10.0**x)
    ticks = {"y_ticks": [1, 10, 100, 1000, 10000], "y_tick_labels": ["10^0", "10^1", "10^2", "10^3", "10^4"]}
    return line(points("_child0", x, 10.0**x), y_scale="log", **ticks)


@plot()
def log_log_of_base_two() -> Expected:
    x = 2.0 ** np.arange(10)
    _, ax = plt.subplots()
    ax.loglog(x, x**3, base=2)
    return line(points("_child0", x, x**3), x_scale="log", y_scale="log")


@plot()
def symmetric_log_and_logit() -> Expected:
    x = np.linspace(-50, 50, 101)
    _, (left, right) = plt.subplots(1, 2)
    left.plot(x, x**3)
    left.set_yscale("symlog", linthresh=10)
    share = np.linspace(0.01, 0.99, 20)
    right.plot(share, share)
    right.set_xscale("logit")
    return composite(
        line(points("_child0", x, x**3), y_scale="symlog"),
        line(points("_child0", share, share), x_scale="logit"),
    )


@plot()
def inverted_and_cropped() -> Expected:
    x = np.arange(100)
    plt.plot(x, x**2)
    plt.xlim(20, 10)
    plt.xticks([20, 15, 10])
    return line(points("_child0", x, x**2), x_ticks=[20, 15, 10], x_tick_labels=["20", "15", "10"])


@plot()
def ticks_with_names() -> Expected:
    plt.plot([0, 1, 2], [1, 0, 2])
    plt.xticks([0, 1, 2], ["low", "middle", "high"], rotation=45)
    plt.yticks([0, 0.5, 2])
    names = {"x_ticks": [0, 1, 2], "x_tick_labels": ["low", "middle", "high"], "x_scale": "categorical"}
    return line(
        points("_child0", [0, 1, 2], [1, 0, 2]), **names, y_ticks=[0, 0.5, 2], y_tick_labels=["0.0", "0.5", "2.0"]
    )


@plot()
def ticks_of_pi() -> Expected:
    x = np.linspace(0, 2 * np.pi, 50)
    plt.plot(x, np.cos(x))
    plt.xticks([0, np.pi, 2 * np.pi], ["0", r"$\pi$", r"$2\pi$"])
    return line(
        points("_child0", x, np.cos(x)), x_ticks=[0, np.pi, 2 * np.pi], x_tick_labels=["0", r"$\pi$", r"$2\pi$"]
    )


@plot()
def formatted_ticks() -> Expected:
    x = [0, 50_000, 100_000]
    _, ax = plt.subplots()
    ax.plot(x, [0, 0.5, 1])
    ax.set_xticks(x)
    ax.xaxis.set_major_formatter(ticker.EngFormatter(unit="Hz"))
    ax.set_yticks([0, 0.5, 1])
    ax.yaxis.set_major_formatter(ticker.PercentFormatter(xmax=1))
    labels = {"x_tick_labels": ["0 Hz", "50 kHz", "100 kHz"], "y_tick_labels": ["0%", "50%", "100%"]}
    return line(points("_child0", x, [0, 0.5, 1]), x_ticks=x, y_ticks=[0, 0.5, 1], **labels)


@plot()
def negative_and_large_ticks() -> Expected:
    _, ax = plt.subplots()
    ax.plot([-1, 1], [-2e9, 2e9])
    ax.set_xticks([-1, 0, 1])
    ax.set_yticks([-2e9, 0, 2e9])
    ax.ticklabel_format(axis="y", style="plain")
    labels = {"x_tick_labels": ["-1", "0", "1"], "y_tick_labels": ["-2000000000", "0", "2000000000"]}
    return line(points("_child0", [-1, 1], [-2e9, 2e9]), x_ticks=[-1, 0, 1], y_ticks=[-2e9, 0, 2e9], **labels)


@plot()
def error_bars() -> Expected:
    x, y = np.arange(1, 5), np.array([2.0, 3, 1, 5])
    plt.errorbar(x, y, yerr=0.3, xerr=0.1, fmt="o-", capsize=4, label="measured")
    plt.errorbar(x, y + 2, yerr=[[0.1] * 4, [0.5] * 4], label="computed")
    plt.legend()
    return line(points("measured", x, y), points("computed", x, y + 2))


@plot()
def error_bars_without_a_label() -> Expected:
    plt.errorbar([1, 2], [3, 4], yerr=0.2, fmt="o")
    return line(points("_container0" if hasattr(plt, "ecdf") else "_nolegend_", [1, 2], [3, 4]))


@plot(matplotlib="3.8")
def cumulated_distribution() -> Expected:
    plt.ecdf([3, 1, 2], label="share")
    return line(points("share", [1, 1, 2, 3], [0, 1 / 3, 2 / 3, 1]))


@plot()
def stems() -> Expected:
    x = np.linspace(0.1, 6, 20)
    plt.stem(x, np.exp(np.sin(x)), label="samples")
    return line(points("samples", x, np.exp(np.sin(x))))


@plot()
def marked_levels() -> Expected:
    plt.plot(T, T**2, label="value")
    plt.axhline(2, color="red", linestyle="--")
    plt.axvline(1, color="grey")
    plt.axhspan(1, 1.5, alpha=0.2)
    plt.axvspan(0.2, 0.4, alpha=0.2)
    plt.annotate("here", (1, 1), (1.5, 2), arrowprops={"arrowstyle": "->"})
    plt.text(0.5, 3, "text")
    return line(points("value", T, T**2))


@plot()
def confidence_band() -> Expected:
    y = np.sin(T)
    plt.plot(T, y, label="mean")
    plt.fill_between(T, y - 0.2, y + 0.2, alpha=0.3, label="deviation")
    plt.legend()
    return line(points("mean", T, y))


@plot()
def two_points() -> Expected:
    plt.plot([0, 1], [5, 5])
    return line(points("_child0", [0, 1], [5, 5]))


@plot()
def styled_by_a_sheet() -> Expected:
    with plt.style.context("ggplot"):
        plt.plot([1, 2, 3], [1, 4, 9], label="styled")
        plt.title("Left", loc="left")
    return line(points("styled", [1, 2, 3], [1, 4, 9]), title="Left")


@plot()
def title_of_mathematics() -> Expected:
    plt.plot([1, 2])
    plt.title(r"$\alpha_i > \beta_i$ — Größe")
    return line(points("_child0", [0, 1], [1, 2]), title=r"$\alpha_i > \beta_i$ — Größe")
