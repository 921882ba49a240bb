"""Files: large, small and many."""

import io
import json
import uuid

from bench.target import MB, Figures, Target, folder, grove, median_ms, multipart, peak_growth_mb, upload


def transfer_large(target: Target) -> Figures:
    """256 MB up, down, and down as multipart."""
    client, chunk, buffer = target.client(), bytes(range(256)) * 4096, bytearray(1 << 20)
    times = 256
    size = len(chunk) * times / MB
    with folder(target, client) as path:
        file = f"{path}/large"
        body = json.dumps({"paths": [file]})
        upload(client, file, chunk)
        with peak_growth_mb(target) as growth:
            up = median_ms(lambda: upload(client, file, chunk, times), 3)
            down = median_ms(lambda: client.call("GET", "/files/download", query={"path": file}, into=buffer), 3)
            bulk = median_ms(lambda: client.call("POST", "/files/bulk-download", body=body, into=buffer), 3)
    return {
        "upload_mb_per_s": size / up * 1000,
        "download_mb_per_s": size / down * 1000,
        "bulk_download_mb_per_s": size / bulk * 1000,
        **growth.figures("transfer_growth_mb"),
    }


def transfer_small(target: Target) -> Figures:
    """1 kB up and down."""
    client, content = target.client(), b"x" * 1000
    with folder(target, client) as path:
        head, tail, headers = multipart(f"{path}/small", len(content))
        body = head + content + tail
        up = median_ms(lambda: client.call("POST", "/files/bulk-upload", body=io.BytesIO(body), headers=headers), 200)
        down = median_ms(lambda: client.call("GET", "/files/download", query={"path": f"{path}/small"}), 200)
    return {"upload_1kb_ms": up, "download_1kb_ms": down}


def listing(target: Target) -> Figures:
    """A directory of 10,000 files."""
    client = target.client()
    with folder(target, client) as path:
        client.execute("seq 1 10000 | xargs touch", cwd=path)
        return {"list_10000_ms": median_ms(lambda: client.call("GET", "/files", query={"path": path}), 5)}


def search_names(target: Target) -> Figures:
    """By name: all of 20,000 files, and 200 of them."""
    client = target.client()
    with grove(target, client) as path:

        def search(pattern: str) -> None:
            client.call("GET", "/files/search", query={"path": path, "pattern": pattern})

        every, some = median_ms(lambda: search("*.txt"), 9), median_ms(lambda: search("f00.txt"), 9)
        return {"search_20000_ms": every, "search_20000_for_200_ms": some}


def find_text(target: Target) -> Figures:
    """A text in 200 of 20,000 files."""
    client = target.client()
    with grove(target, client) as path:
        query = {"path": path, "pattern": "needle"}
        return {"find_20000_ms": median_ms(lambda: client.call("GET", "/files/find", query=query), 9)}


def replace_text(target: Target) -> Figures:
    """A text in each of 1,000 files."""
    client = target.client()
    words = ["one", "two"]
    with folder(target, client) as path:
        client.execute("for f in $(seq 1000); do echo 'a one, and one more' > $f; done", cwd=path)
        files = [f"{path}/{number}" for number in range(1, 1001)]

        def swap() -> None:
            client.json("POST", "/files/replace", {"files": files, "pattern": words[0], "newValue": words[1]})
            words.reverse()

        return {"replace_1000_ms": median_ms(swap, 9)}


def upload_many(target: Target) -> Figures:
    """1,000 files of 4 kB in one request."""
    client, content = target.client(), b"x" * 4000
    boundary = uuid.uuid4().hex
    with folder(target, client) as path:
        body = b"".join(
            _part(boundary, f"files[{number}].path", f"{path}/{number}".encode())
            + _part(boundary, f"files[{number}].file", content, filename=True)
            for number in range(1000)
        )
        body += f"--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        upload = median_ms(lambda: client.call("POST", "/files/bulk-upload", body=body, headers=headers), 5)
        return {"upload_1000_ms": upload}


def _part(boundary: str, name: str, content: bytes, *, filename: bool = False) -> bytes:
    more = '; filename="f"' if filename else ""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def archive(target: Target) -> Figures:
    """A directory of 1,000 files of 4 kB as a tar stream, down and up."""
    client = target.client()
    with folder(target, client) as path:
        client.execute("mkdir src; for f in $(seq 1000); do head -c 4000 /dev/zero > src/$f; done", cwd=path)
        query = {"path": f"{path}/src"}
        content = client.call("GET", "/files/archive", query=query)
        down = median_ms(lambda: client.call("GET", "/files/archive", query=query), 5)
        into = {"path": f"{path}/dst"}
        up = median_ms(lambda: client.call("POST", "/files/archive", query=into, body=content), 5)
        return {"archive_1000_down_ms": down, "archive_1000_up_ms": up}
