"""Object storage as S3's clients use it: obstore (the Python SDK's), and requests signed by hand."""

import asyncio
import hashlib
import hmac
import io
import os
import time
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import aiohttp
import pytest
from yarl import URL

from controlplane.objectstore import credentials, sigv4
from controlplane.objectstore.errors import S3Error
from tests.controlplane.conftest import Plane, plane_on

EMPTY = hashlib.sha256(b"").hexdigest()
CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
TRAILER = CHUNKS + "-TRAILER"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
MIB = 1024 * 1024


class Bucket:
    """A client of S3 that can also do what the published ones never do."""

    def __init__(self, access: dict[str, str], http: aiohttp.ClientSession) -> None:
        self.access, self.http = access, http
        self.moment = datetime.now(UTC)

    @property
    def scope(self) -> str:
        return f"{self.moment:%Y%m%d}/{self.access['region']}/s3/aws4_request"

    def sign(self, *lines: str) -> str:
        key = b"AWS4" + self.access["secret"].encode()
        for part in self.scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return hmac.new(key, "\n".join(lines).encode(), hashlib.sha256).hexdigest()

    async def call(
        self,
        method: str,
        key: str = "",
        data: bytes = b"",
        *,
        query: str = "",
        kind: str = "",
        wrap: Any = None,
        expect: int = 200,
        bucket: str | None = None,
        body: AsyncIterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[bytes, Any]:
        """Send a signed request; `wrap` makes the body of the seed signature, `body` is sent as it comes."""
        path = f"/s3/{bucket or self.access['bucket']}" + (f"/{key}" if key else "")
        base = self.access["storageUrl"].removesuffix("/s3")
        sent = {
            "host": base.partition("//")[2],
            "x-amz-content-sha256": kind or hashlib.sha256(data).hexdigest(),
            "x-amz-date": f"{self.moment:%Y%m%dT%H%M%SZ}",
            "x-amz-security-token": self.access["sessionToken"],
            **(headers or {}),
        }
        names = sorted(sent)
        canonical_query = "&".join(sorted(part if "=" in part else part + "=" for part in query.split("&") if part))
        request = "\n".join(
            [
                *(method, path, canonical_query),
                *(f"{name}:{sent[name]}" for name in names),
                *("", ";".join(names), sent["x-amz-content-sha256"]),
            ]
        )
        digest = hashlib.sha256(request.encode()).hexdigest()
        signature = self.sign("AWS4-HMAC-SHA256", sent["x-amz-date"], self.scope, digest)
        sent["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access['accessKey']}/{self.scope}, "
            f"SignedHeaders={';'.join(names)}, Signature={signature}"
        )
        url = URL(base + path + ("?" + query if query else ""), encoded=True)
        content = body or io.BytesIO(wrap(signature) if wrap is not None else data)
        async with self.http.request(method, url, data=content, headers=sent) as response:
            answer = await response.read()
            assert response.status == expect, answer
            return answer, response.headers

    async def refused(self, code: str, method: str, key: str = "", data: bytes = b"", **options: Any) -> None:
        answer, _ = await self.call(method, key, data, **options)
        root = ET.fromstring(answer)
        assert (root.tag, root.findtext("Code")) == ("Error", code)

    def chunks(self, *parts: bytes, trailers: str = "", spoil: int = -1) -> Any:
        """Return what wraps parts into signed chunks."""

        def wrap(seed: str) -> bytes:
            found, previous, moment = b"", seed, f"{self.moment:%Y%m%dT%H%M%SZ}"
            for number, part in enumerate([*parts, b""]):
                digest = hashlib.sha256(part).hexdigest()
                previous = self.sign("AWS4-HMAC-SHA256-PAYLOAD", moment, self.scope, previous, EMPTY, digest)
                shown = previous if number != spoil else "0" * 64
                found += f"{len(part):x};chunk-signature={shown}\r\n".encode() + part + (b"\r\n" if part else b"")
            if trailers:
                digest = hashlib.sha256(trailers.encode()).hexdigest()
                last = self.sign("AWS4-HMAC-SHA256-TRAILER", moment, self.scope, previous, digest)
                shown = last if spoil != len(parts) + 1 else "0" * 64
                found += trailers.replace("\n", "\r\n").encode() + f"x-amz-trailer-signature:{shown}\r\n".encode()
            return found + b"\r\n"

        return wrap


@asynccontextmanager
async def bucket_of(plane: Plane) -> AsyncIterator[Bucket]:
    access = await plane.call("GET", "/object-storage/push-access")
    async with aiohttp.ClientSession() as http:
        yield Bucket(access, http)


@pytest.fixture
async def bucket(plane: Plane) -> AsyncIterator[Bucket]:
    async with bucket_of(plane) as found:
        yield found


def crc32(data: bytes) -> str:
    return b64encode(zlib.crc32(data).to_bytes(4)).decode()


def files(plane: Plane) -> list[Path]:
    return [each for each in (plane.state_dir / "controlplane/storage").rglob("*") if each.is_file()]


async def test_object(plane: Plane, bucket: Bucket) -> None:
    data = os.urandom(3 * MIB)
    _, headers = await bucket.call("PUT", "local/a/context.tar", data, headers={"content-type": "application/x-tar"})
    assert headers["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    answer, headers = await bucket.call("GET", "local/a/context.tar")
    assert answer == data
    assert headers["Content-Type"] == "application/x-tar"
    answer, headers = await bucket.call("HEAD", "local/a/context.tar")
    assert (answer, headers["Content-Length"]) == (b"", str(len(data)))
    assert headers["Last-Modified"].endswith("GMT")
    answer, headers = await bucket.call("GET", "local/a/context.tar", headers={"range": "bytes=10-19"}, expect=206)
    assert (answer, headers["Content-Range"]) == (data[10:20], f"bytes 10-19/{len(data)}")
    await bucket.refused(
        "InvalidRange", "GET", "local/a/context.tar", headers={"range": f"bytes={len(data)}-"}, expect=416
    )
    await bucket.call("PUT", "local/a/context.tar", b"new")
    assert (await bucket.call("GET", "local/a/context.tar"))[0] == b"new"
    await bucket.call("DELETE", "local/a/context.tar", expect=204)
    await bucket.call("DELETE", "local/a/context.tar", expect=204)
    await bucket.refused("NoSuchKey", "GET", "local/a/context.tar", expect=404)
    assert (await bucket.call("HEAD", "local/a/context.tar", expect=404))[0] == b""
    assert files(plane) == []


async def test_keys_of_all_kinds(bucket: Bucket) -> None:
    for key in ("local/a%20b/%C3%BC", "local/a//b", "local/%2B%26", "local/x.y_z~-"):
        await bucket.call("PUT", key, key.encode())
        assert (await bucket.call("GET", key))[0] == key.encode()
    await bucket.refused("KeyTooLongError", "PUT", "local/" + "k" * 1100, b"", expect=400)
    await bucket.refused("InvalidArgument", "PUT", "local/%00", b"", expect=400)
    await bucket.refused("InvalidArgument", "PUT", "local/%FF", b"", expect=400)


@pytest.mark.parametrize("name", ["crc32", "sha1", "sha256"])
async def test_checksums(plane: Plane, bucket: Bucket, name: str) -> None:
    data = os.urandom(1000)
    right = {
        "crc32": crc32(data),
        "sha1": b64encode(hashlib.sha1(data).digest()).decode(),
        "sha256": b64encode(hashlib.sha256(data).digest()).decode(),
    }[name]
    _, headers = await bucket.call(
        "PUT", "local/x", data, kind="UNSIGNED-PAYLOAD", headers={f"x-amz-checksum-{name}": right}
    )
    assert headers[f"x-amz-checksum-{name}"] == right
    wrong = {f"x-amz-checksum-{name}": crc32(b"other")}
    await bucket.refused("BadDigest", "PUT", "local/y", data, kind="UNSIGNED-PAYLOAD", expect=400, headers=wrong)
    await bucket.refused("NoSuchKey", "GET", "local/y", expect=404)
    assert len(files(plane)) == 1


async def test_digests_that_do_not_match(plane: Plane, bucket: Bucket) -> None:
    kind = hashlib.sha256(b"other").hexdigest()
    await bucket.refused("XAmzContentSHA256Mismatch", "PUT", "local/x", b"data", kind=kind, expect=400)
    md5 = b64encode(hashlib.md5(b"other").digest()).decode()
    await bucket.refused("BadDigest", "PUT", "local/x", b"data", expect=400, headers={"content-md5": md5})
    await bucket.refused(
        "NotImplemented", "PUT", "local/x", b"data", expect=501, headers={"x-amz-checksum-crc64nvme": "x"}
    )
    await bucket.refused("InvalidRequest", "PUT", "local/x", b"data", kind="anything", expect=400)
    assert files(plane) == []


def announced(data: bytes, **more: str) -> dict[str, str]:
    return {"x-amz-decoded-content-length": str(len(data)), "content-encoding": "aws-chunked", **more}


async def test_signed_chunks(plane: Plane, bucket: Bucket) -> None:
    first, second = os.urandom(2 * MIB), os.urandom(1000)
    data = first + second
    await bucket.call("PUT", "local/x", kind=CHUNKS, wrap=bucket.chunks(first, second), headers=announced(data))
    assert (await bucket.call("GET", "local/x"))[0] == data
    for spoil in range(3):
        wrap = bucket.chunks(first, second, spoil=spoil)
        await bucket.refused(
            "SignatureDoesNotMatch", "PUT", "local/y", kind=CHUNKS, wrap=wrap, expect=403, headers=announced(data)
        )
    for wrong in (data + b"more", data[:-1]):
        wrap = bucket.chunks(first, second)
        await bucket.refused(
            "IncompleteBody", "PUT", "local/y", kind=CHUNKS, wrap=wrap, expect=400, headers=announced(wrong)
        )
    headers = announced(data)
    del headers["x-amz-decoded-content-length"]
    await bucket.refused(
        "MissingContentLength", "PUT", "local/y", kind=CHUNKS, wrap=bucket.chunks(data), expect=411, headers=headers
    )
    assert len(files(plane)) == 1


async def test_trailers(plane: Plane, bucket: Bucket) -> None:
    data = os.urandom(100_000)
    trailer = {"x-amz-trailer": "x-amz-checksum-crc32"}
    right, wrong = f"x-amz-checksum-crc32:{crc32(data)}\n", f"x-amz-checksum-crc32:{crc32(b'other')}\n"
    put: dict[str, Any] = {"kind": TRAILER, "headers": announced(data, **trailer)}
    await bucket.call("PUT", "local/x", wrap=bucket.chunks(data, trailers=right), **put)
    assert (await bucket.call("GET", "local/x"))[0] == data
    await bucket.refused("BadDigest", "PUT", "local/y", wrap=bucket.chunks(data, trailers=wrong), expect=400, **put)
    wrap = bucket.chunks(data, trailers=right, spoil=2)
    await bucket.refused("SignatureDoesNotMatch", "PUT", "local/y", wrap=wrap, expect=403, **put)

    def unsigned(line: str) -> bytes:
        return f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n" + line.replace("\n", "\r\n").encode() + b"\r\n"

    put = {"kind": UNSIGNED_TRAILER, "headers": announced(data, **trailer)}
    _, headers = await bucket.call("PUT", "local/x", wrap=lambda _: unsigned(right), **put)
    assert headers["x-amz-checksum-crc32"] == crc32(data)
    await bucket.refused("BadDigest", "PUT", "local/y", wrap=lambda _: unsigned(wrong), expect=400, **put)
    await bucket.refused("IncompleteBody", "PUT", "local/y", wrap=lambda _: b"zzz\r\n", expect=400, **put)
    await bucket.refused("IncompleteBody", "PUT", "local/y", wrap=lambda _: b"ff\r\nshort", expect=400, **put)
    await bucket.refused("IncompleteBody", "PUT", "local/y", wrap=lambda _: b"1\r\nlong\r\n", expect=400, **put)
    assert len(files(plane)) == 1


async def begin(bucket: Bucket, key: str) -> str:
    answer, _ = await bucket.call("POST", key, query="uploads=")
    return ET.fromstring(answer).findtext("{*}UploadId") or ""


def naming(*parts: tuple[int, str]) -> bytes:
    listed = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{e}</ETag></Part>" for n, e in parts)
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    return f'<CompleteMultipartUpload xmlns="{space}">{listed}</CompleteMultipartUpload>'.encode()


async def test_multipart(plane: Plane, bucket: Bucket) -> None:
    upload = await begin(bucket, "local/big")
    parts = [os.urandom(5 * MIB), os.urandom(5 * MIB), b"end"]

    async def put(number: int, data: bytes) -> str:
        _, headers = await bucket.call("PUT", "local/big", data, query=f"partNumber={number}&uploadId={upload}")
        return str(headers["ETag"])

    await put(2, b"replaced")
    etags = await asyncio.gather(*(put(number, data) for number, data in enumerate(parts, 1)))
    answer, _ = await bucket.call("GET", "local/big", query=f"uploadId={upload}&max-parts=2")
    root = ET.fromstring(answer)
    assert [each.text for each in root.findall("{*}Part/{*}PartNumber")] == ["1", "2"]
    assert (root.findtext("{*}IsTruncated"), root.findtext("{*}NextPartNumberMarker")) == ("true", "2")
    finish: dict[str, Any] = {"query": f"uploadId={upload}"}
    named = list(enumerate(etags, 1))
    await bucket.refused("InvalidPart", "POST", "local/big", naming((1, "x")), expect=400, **finish)
    await bucket.refused("InvalidPartOrder", "POST", "local/big", naming(*named[::-1]), expect=400, **finish)
    await bucket.refused("MalformedXML", "POST", "local/big", naming(), expect=400, **finish)
    await bucket.refused("MalformedXML", "POST", "local/big", b"<!DOCTYPE x><x/>", expect=400, **finish)
    await bucket.refused("NoSuchUpload", "POST", "local/other", naming(*named), expect=404, **finish)
    answer, _ = await bucket.call("POST", "local/big", naming(*named), **finish)
    assert (ET.fromstring(answer).findtext("{*}ETag") or "").endswith('-3"')
    assert (await bucket.call("GET", "local/big"))[0] == b"".join(parts)
    await bucket.refused("NoSuchUpload", "POST", "local/big", naming(*named), expect=404, **finish)
    assert len(files(plane)) == 1


async def test_multipart_that_ends_otherwise(plane: Plane, bucket: Bucket) -> None:
    upload = await begin(bucket, "local/big")
    etags = []
    for number in (1, 2):
        query = f"partNumber={number}&uploadId={upload}"
        _, headers = await bucket.call("PUT", "local/big", b"small", query=query)
        etags.append((number, headers["ETag"]))
    await bucket.refused("EntityTooSmall", "POST", "local/big", naming(*etags), query=f"uploadId={upload}", expect=400)
    for text in ("0", "10001", "x"):
        query = f"partNumber={text}&uploadId={upload}"
        await bucket.refused("InvalidArgument", "PUT", "local/big", b"x", query=query, expect=400)
    await bucket.call("DELETE", "local/big", query=f"uploadId={upload}", expect=204)
    await bucket.refused("NoSuchUpload", "DELETE", "local/big", query=f"uploadId={upload}", expect=404)
    assert files(plane) == []


async def test_list(bucket: Bucket) -> None:
    for key in ("local/a/1", "local/a/2", "local/b", "local/c/3"):
        await bucket.call("PUT", key, b"x")

    async def page(query: str) -> tuple[list[str], list[str], str | None]:
        root = ET.fromstring((await bucket.call("GET", query=f"list-type=2&{query}"))[0])
        keys = [each.text or "" for each in root.findall("{*}Contents/{*}Key")]
        prefixes = [each.text or "" for each in root.findall("{*}CommonPrefixes/{*}Prefix")]
        assert root.findtext("{*}KeyCount") == str(len(keys) + len(prefixes))
        return keys, prefixes, root.findtext("{*}NextContinuationToken")

    assert (await page("prefix=local%2Fa%2F"))[0] == ["local/a/1", "local/a/2"]
    assert await page("prefix=local%2Fnone") == ([], [], None)
    assert await page("delimiter=%2F&prefix=local%2F") == (["local/b"], ["local/a/", "local/c/"], None)
    assert (await page("prefix=local%2F&start-after=local%2Fb"))[0] == ["local/c/3"]
    seen: list[str] = []
    token = ""
    while True:
        query = "max-keys=1&prefix=local%2F"
        keys, _, found = await page(f"continuation-token={token.replace('=', '%3D')}&{query}" if token else query)
        seen += keys
        if found is None:
            break
        token = found
    assert seen == ["local/a/1", "local/a/2", "local/b", "local/c/3"]
    await bucket.refused("InvalidArgument", "GET", query="list-type=2&max-keys=x&prefix=local%2F", expect=400)


async def test_who_may(plane: Plane, bucket: Bucket) -> None:
    await bucket.call("PUT", "local/x", b"mine")
    await bucket.refused("AccessDenied", "GET", "other/x", expect=403)
    await bucket.refused("AccessDenied", "GET", query="list-type=2", expect=403)
    await bucket.refused("AccessDenied", "GET", query="list-type=2&prefix=oth", expect=403)
    await bucket.refused("NoSuchBucket", "GET", "local/x", bucket="other", expect=404)
    await bucket.refused(
        "NotImplemented", "PUT", "local/y", expect=501, headers={"x-amz-copy-source": "/contexts/local/x"}
    )
    async with bucket.http.get(f"{plane.origin}/s3/contexts/local/x") as response:
        assert (response.status, response.content_type) == (403, "application/xml")
    # The API key opens nothing here, and these credentials nothing there.
    async with plane.http.get(f"{plane.origin}/s3/contexts/local/x") as response:
        assert response.status == 403
    bearer = {"Authorization": f"Bearer {bucket.access['sessionToken']}"}
    async with bucket.http.get(f"{plane.api_url}/sandbox", headers=bearer) as response:
        assert response.status == 401
    good = bucket.access
    bucket.access = {**good, "secret": "wrong"}
    await bucket.refused("SignatureDoesNotMatch", "GET", "local/x", expect=403)
    bucket.access = {**good, "sessionToken": good["sessionToken"][:-4] + "AAAA"}
    await bucket.refused("InvalidToken", "GET", "local/x", expect=400)
    bucket.access = {**good, "accessKey": "TBOTHER"}
    await bucket.refused("InvalidAccessKeyId", "GET", "local/x", expect=403)
    bucket.access = {**good, "region": "eu-west-1"}
    await bucket.refused("AuthorizationHeaderMalformed", "GET", "local/x", expect=400)
    bucket.access, bucket.moment = good, datetime.now(UTC) - timedelta(minutes=20)
    await bucket.refused("RequestTimeTooSkewed", "GET", "local/x", expect=403)


def test_credentials_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = credentials.Issuer("secret")
    issued = issuer.issue("local")
    assert issuer.open(issued.access_key, issued.session_token).organization_id == "local"
    assert issuer.secret(issued.session_token) == issued.secret
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + credentials.LIFETIME_SECONDS + 2)
    with pytest.raises(S3Error, match="expired"):
        issuer.open(issued.access_key, issued.session_token)
    with pytest.raises(S3Error, match="malformed"):
        credentials.Issuer("other").open(issued.access_key, issued.session_token)


def test_canonical_request_is_that_of_the_specification() -> None:
    """The example "GET Object" of the S3 documentation."""
    message = sigv4.Message(
        method="GET",
        path="/test.txt",
        query="",
        headers={
            "host": ["examplebucket.s3.amazonaws.com"],
            "range": ["bytes=0-9"],
            "x-amz-content-sha256": [EMPTY],
            "x-amz-date": ["20130524T000000Z"],
            "authorization": [
                (
                    "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
                    "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
                    "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
                )
            ],
        },
    )
    claim = sigv4.read_claim(message, region="us-east-1", now=datetime(2013, 5, 24, tzinfo=UTC))
    sigv4.Signer("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", claim).verify_request(message)
    with pytest.raises(S3Error, match="does not match"):
        sigv4.Signer("wrong", claim).verify_request(message)


async def test_client_that_goes_away_leaves_nothing(plane: Plane, bucket: Bucket) -> None:
    arrived = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield os.urandom(2 * MIB)
        arrived.set()
        await asyncio.Event().wait()

    headers = {"content-length": str(4 * MIB)}
    call = asyncio.ensure_future(bucket.call("PUT", "local/x", kind="UNSIGNED-PAYLOAD", body=half(), headers=headers))
    await arrived.wait()
    async with asyncio.timeout(30):
        while not files(plane):
            await asyncio.sleep(0.02)
        call.cancel()
        while files(plane):
            await asyncio.sleep(0.02)
    await asyncio.gather(call, return_exceptions=True)
    await bucket.refused("NoSuchKey", "GET", "local/x", expect=404)


async def test_objects_outlive_the_control_plane_and_uploads_do_not(tmp_path: Path) -> None:
    async with plane_on(tmp_path / "state") as plane, bucket_of(plane) as bucket:
        await bucket.call("PUT", "local/x", b"kept")
        upload = await begin(bucket, "local/y")
        await bucket.call("PUT", "local/y", b"part", query=f"partNumber=1&uploadId={upload}")
    async with plane_on(tmp_path / "state") as plane, bucket_of(plane) as bucket:
        assert (await bucket.call("GET", "local/x"))[0] == b"kept"
        await bucket.refused("NoSuchUpload", "GET", "local/y", query=f"uploadId={upload}", expect=404)
        assert len(files(plane)) == 1
