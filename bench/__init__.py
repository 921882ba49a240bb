"""The speed card: what each operation costs, measured as a client sees it.

`python -m bench.card` measures a daemon that it starts, with what limits each figure on this machine; `--url` another.
`python -m bench.compare URL URL` measures two toolboxes in turn. `python -m bench.check` fails when a figure is too far
from its limit. `python -m bench.page CARD.json --readme README.md` plots a card and puts its table into the README.

A row is a function in `rows/`, its place in the card a line in `table.py`, what limits it a function in `limits.py`.
"""
