"""`python -m bench.creates [--many 100] [--one-by-one 20]`: how long from a create to the first command's answer.

It asks the `toolboxd up` that `DAYTONA_API_URL` and `DAYTONA_API_KEY` name, whatever its driver, prints one JSON card,
and deletes what it made. Every create has to succeed.
"""

import argparse
import json
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from bench.client import Client


def create(url: str, key: str, made: list[str]) -> float:
    """Make a sandbox, whose id goes to `made`, and run a command; return the seconds that it took."""
    started = time.perf_counter()
    headers = {"Content-Type": "application/json"}
    sandbox = json.loads(Client(url, key).call("POST", "/sandbox", body="{}", headers=headers))
    made.append(sandbox["id"])
    parts = urlsplit(url)
    command = json.dumps({"command": "echo hello"})
    toolbox = Client(f"{parts.scheme}://{parts.netloc}/toolbox/{sandbox['id']}", key)
    answer = json.loads(toolbox.call("POST", "/process/execute", body=command, headers=headers))
    assert answer["result"] == "hello\n", answer
    return time.perf_counter() - started


def main() -> None:
    """Print the card."""
    parser = argparse.ArgumentParser(description="Creates: one after the other, and many at once.")
    parser.add_argument("--one-by-one", type=int, default=20)
    parser.add_argument("--many", type=int, default=100)
    options = parser.parse_args()
    url, key = os.environ["DAYTONA_API_URL"], os.environ["DAYTONA_API_KEY"]
    made: list[str] = []
    try:
        alone = [create(url, key, made) for _ in range(options.one_by_one)]
        with ThreadPoolExecutor(options.many) as threads:
            together = list(threads.map(lambda _: create(url, key, made), range(options.many)))
    finally:
        for sandbox_id in made:
            Client(url, key).call("DELETE", f"/sandbox/{sandbox_id}")
    card = {
        "create_to_first_command_p50_ms": statistics.median(alone) * 1000,
        "many": options.many,
        "many_p50_s": statistics.median(together),
        "many_last_s": max(together),
    }
    print(json.dumps({name: round(value, 3) for name, value in card.items()}, indent=2))


if __name__ == "__main__":
    main()
