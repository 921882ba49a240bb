"""S3's XML: answers, errors, and the list of parts that completes an upload."""

from collections.abc import Sequence
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from controlplane.objectstore.errors import S3Error
from controlplane.objectstore.multipart import NamedPart, Part, Upload
from controlplane.objectstore.objects import Page, StoredObject

CONTENT_TYPE = "application/xml"
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


def error(failed: S3Error, *, resource: str, request_id: str) -> str:
    """Return the answer of a request that failed."""
    return _HEAD + _element("Error", Code=failed.code, Message=failed.message, Resource=resource, RequestId=request_id)


def initiated(bucket: str, upload: Upload) -> str:
    """Return the answer of CreateMultipartUpload."""
    return _document("InitiateMultipartUploadResult", _fields(Bucket=bucket, Key=upload.key, UploadId=upload.id))


def completed(bucket: str, stored: StoredObject, location: str) -> str:
    """Return the answer of CompleteMultipartUpload."""
    fields = _fields(Location=location, Bucket=bucket, Key=stored.name, ETag=f'"{stored.etag}"')
    return _document("CompleteMultipartUploadResult", fields)


def parts(bucket: str, upload: Upload, page: Sequence[Part], *, more: bool, limit: int, after: int) -> str:
    """Return the answer of ListParts."""
    fields = _fields(
        Bucket=bucket,
        Key=upload.key,
        UploadId=upload.id,
        PartNumberMarker=str(after),
        NextPartNumberMarker=str(page[-1].number if page else after),
        MaxParts=str(limit),
        IsTruncated=_flag(more),
    )
    for each in page:
        fields += _element(
            "Part",
            PartNumber=str(each.number),
            LastModified=_moment(each.modified_at),
            ETag=f'"{each.etag}"',
            Size=str(each.size),
        )
    return _document("ListPartsResult", fields)


def listed(bucket: str, prefix: str, page: Page, *, limit: int, token: str, next_token: str, **more: str) -> str:
    """Return the answer of ListObjectsV2; `more` are further fields to repeat, empty ones left out."""
    given = {name: value for name, value in {**more, "ContinuationToken": token}.items() if value}
    if page.last:
        given["NextContinuationToken"] = next_token
    fields = _fields(
        Name=bucket,
        Prefix=prefix,
        KeyCount=str(len(page.objects) + len(page.prefixes)),
        MaxKeys=str(limit),
        IsTruncated=_flag(bool(page.last)),
        **given,
    )
    for each in page.objects:
        fields += _element(
            "Contents",
            Key=each.name,
            LastModified=_moment(each.created_at),
            ETag=f'"{each.etag}"',
            Size=str(each.size),
            StorageClass="STANDARD",
        )
    fields += "".join(_element("CommonPrefixes", Prefix=each) for each in page.prefixes)
    return _document("ListBucketResult", fields)


def read_parts(body: bytes) -> list[NamedPart]:
    """Return the parts that a CompleteMultipartUpload names. Raises `S3Error`."""
    malformed = S3Error("MalformedXML", "The XML you provided was not well-formed or did not validate.")
    # Without declarations there are no entities: nothing grows while it is read.
    if b"<!" in body:
        raise malformed
    try:
        root = ET.fromstring(body)  # noqa: S314 -- bounded, and without entities
        return [
            NamedPart(number=int(_text(each, "PartNumber")), etag=_text(each, "ETag").strip())
            for each in root
            if each.tag.rpartition("}")[2] == "Part"
        ]
    except (ET.ParseError, ValueError):
        raise malformed from None


def _text(element: ET.Element, name: str) -> str:
    for each in element:
        if each.tag.rpartition("}")[2] == name:
            return each.text or ""
    raise ValueError(name)


def _document(name: str, fields: str) -> str:
    return f'{_HEAD}<{name} xmlns="{_NAMESPACE}">{fields}</{name}>'


def _element(name: str, **fields: str) -> str:
    return f"<{name}>{_fields(**fields)}</{name}>"


def _fields(**fields: str) -> str:
    return "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _moment(text: str) -> str:
    """Return a time with milliseconds, as S3 writes it."""
    return text[:23] + "Z"
