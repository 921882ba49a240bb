"""A chart on the wire, for the daemon; nothing in the user's interpreter imports this.

Field names are the contract's, snake_case also on the wire. The published Python SDK is strict: numbers must be JSON
numbers, labels strings, lists without null.
"""

import msgspec


class Chart(msgspec.Struct, omit_defaults=True):
    """A figure of matplotlib: what was drawn, and its picture.

    Elements stay the JSON text they came as: there may be a million points, and they are only passed on.
    """

    type: str
    """line, scatter, bar, pie, box_and_whisker, composite_chart or unknown."""
    elements: list[msgspec.Raw]
    """Elements of the type, or the charts of a composite one."""
    title: str = ""
    png: str = ""
    """The picture, base64."""
    x_label: str = ""
    y_label: str = ""
    x_ticks: list[float] | None = None
    y_ticks: list[float] | None = None
    x_tick_labels: list[str] | None = None
    y_tick_labels: list[str] | None = None
    x_scale: str = ""
    y_scale: str = ""


def read_chart(data: bytes) -> Chart:
    """Return the chart that the hook has written as JSON. Raises `msgspec.MsgspecError`."""
    return msgspec.json.decode(data, type=Chart)
