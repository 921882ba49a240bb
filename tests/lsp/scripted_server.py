"""A language server that does what `script.json` in its directory says, and writes what it gets to `log.jsonl`.

Keys of the script: `capabilities`, `answers` (results by method), `errors` (lists of error codes by method, used up
one by one), `silent` (methods never answered), `die` (methods that end it), `publish` (diagnostics sent for each
opened or changed document), `asks` (requests sent after `initialized`), `garbage` (printed instead of anything).
"""

import json
import sys
from pathlib import Path
from typing import Any

script = json.loads(Path("script.json").read_text())
log = Path("log.jsonl").open("a", buffering=1)  # noqa: SIM115 -- to the end


def send(message: dict[str, Any]) -> None:
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    # The header's case and further fields are free.
    head = f"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\ncontent-length: {len(body)}\r\n\r\n"
    sys.stdout.buffer.write(head.encode() + body)
    sys.stdout.buffer.flush()


def receive() -> dict[str, Any]:
    length = 0
    while line := sys.stdin.buffer.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    if not length:
        sys.exit(0)
    message: dict[str, Any] = json.loads(sys.stdin.buffer.read(length))
    log.write(json.dumps(message) + "\n")
    return message


def answer(identity: object, method: str) -> None:
    errors = script.get("errors", {}).get(method)
    if errors:
        send({"id": identity, "error": {"code": errors.pop(0), "message": "as the script says"}})
    elif method == "initialize":
        send({"id": identity, "result": {"capabilities": script.get("capabilities", {})}})
    elif method in script.get("answers", {}):
        send({"id": identity, "result": script["answers"][method]})
    elif method == "shutdown":
        send({"id": identity, "result": None})
    else:
        send({"id": identity, "error": {"code": -32601, "message": f"not known: {method}"}})


if "garbage" in script:
    print(script["garbage"], flush=True)
    sys.stdin.read()
if "fail" in script:
    sys.exit(script["fail"])
while True:
    message = receive()
    method = message.get("method")
    if method is None or method in script.get("silent", ()):
        continue
    if method in script.get("die", ()):
        print("cannot go on", file=sys.stderr, flush=True)
        sys.exit(3)
    if "id" in message:
        answer(message["id"], method)
    elif method == "exit":
        sys.exit(0)
    elif method == "initialized":
        for number, (name, params) in enumerate(script.get("asks", ())):
            send({"id": f"ask-{number}", "method": name, "params": params})
    elif method in ("textDocument/didOpen", "textDocument/didChange") and "publish" in script:
        uri = message["params"]["textDocument"]["uri"]
        send({"method": "textDocument/publishDiagnostics", "params": {"uri": uri, "diagnostics": script["publish"]}})
