"""Structured logs: one JSON object a line, on stderr and, if asked, in a rotated file.

Records are written by a thread of their own, so that a stuck stderr or a slow disk never holds the event loop; when
the queue is full records are dropped and the number dropped is logged.
"""

import gzip
import json
import logging
import logging.handlers
import queue
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from toolbox.config import MIB, CommonConfig, ConfigError

_QUEUE_RECORDS = 10_000
_DAY = 86_400
_INDISCREET = "aiosqlite"
"""What at debug writes down every value that it is given, secrets among them."""


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        line |= getattr(record, "access", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class _BoundedQueueHandler(logging.handlers.QueueHandler):
    """Hands records to the writer thread; never waits."""

    def __init__(self, records: "queue.SimpleQueue[logging.LogRecord | None]") -> None:
        super().__init__(records)
        self._records = records
        self._dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # same process: formatting stays the writer's work

    def enqueue(self, record: logging.LogRecord) -> None:
        if self._records.qsize() >= _QUEUE_RECORDS:
            self._dropped += 1
            return
        if self._dropped:
            notice = logging.makeLogRecord(
                {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": "log records dropped",
                 "fields": {"dropped": self._dropped}}
            )  # fmt: skip
            self._dropped = 0
            self._records.put_nowait(notice)
        self._records.put_nowait(record)


class _RotatingFile(logging.handlers.RotatingFileHandler):
    """Rotates by size, compresses, and removes backups that are too old."""

    def __init__(self, path: Path, config: CommonConfig) -> None:
        super().__init__(path, maxBytes=config.log_file_max_mb * MIB, backupCount=config.log_file_backups)
        self._days = config.log_file_days
        if config.log_file_compress:
            self.namer = lambda name: name + ".gz"
            self.rotator = _compress

    def doRollover(self) -> None:  # noqa: N802 -- the name of the standard library
        super().doRollover()
        if self._days:
            path = Path(self.baseFilename)
            for backup in path.parent.glob(path.name + ".*"):
                if backup.stat().st_mtime < time.time() - self._days * _DAY:
                    backup.unlink(missing_ok=True)


def _compress(source: str, destination: str) -> None:
    with Path(source).open("rb") as plain, gzip.open(destination, "wb") as packed:
        shutil.copyfileobj(plain, packed)
    Path(source).unlink()


@contextmanager
def logging_to(config: CommonConfig) -> Iterator[None]:
    """Send all logs where `config` says; on leaving, everything logged has been written. Raises `ConfigError`."""
    level = logging.getLevelNamesMapping().get(config.log_level.upper())
    if level is None:
        raise ConfigError(f"log-level: not usable: {config.log_level!r}")
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if config.log_file is not None:
        try:
            handlers.append(_RotatingFile(config.log_file, config))
        except OSError as error:
            raise ConfigError(f"cannot write the log file: {error}") from None
    for handler in handlers:
        handler.setFormatter(_JsonFormatter())
    records: queue.SimpleQueue[logging.LogRecord | None] = queue.SimpleQueue()
    writer = logging.handlers.QueueListener(records, *handlers)
    entry = _BoundedQueueHandler(records)
    root = logging.getLogger()
    root.addHandler(entry)
    root.setLevel(level)
    logging.getLogger(_INDISCREET).setLevel(max(level, logging.INFO))
    writer.start()
    try:
        yield
    finally:
        root.removeHandler(entry)
        writer.stop()
        for handler in handlers:
            handler.close()
