"""Routes of `/files`."""

from aiohttp import web

from toolbox import paths
from toolbox.files.bodies import form_reader, receive_one
from toolbox.files.models import (
    BulkUploadAnswer,
    DeleteQuery,
    DownloadRequest,
    FileInfo,
    FolderQuery,
    ListQuery,
    MoveQuery,
    PathQuery,
    PermissionsQuery,
    UploadAnswer,
)
from toolbox.files.responses import send_form, send_listing
from toolbox.files.service import Files
from toolbox.files.uploads import BulkUpload
from toolbox.web.endpoint import Routes
from toolbox.web.file_response import send_file

routes = Routes("file-system")

_FORM = "multipart/form-data"
_BYTES = "application/octet-stream"


@routes.get("/files", "ListFiles")
async def list_files(request: web.Request, query: ListQuery, files: Files) -> list[FileInfo] | web.StreamResponse:
    """List a directory, `depth` levels deep."""
    return await send_listing(request, files.list(query.path, query.depth), files.threads)


@routes.get("/files/info", "GetFileInfo")
async def info(query: PathQuery, files: Files) -> FileInfo:
    """Tell what a file is, links followed."""
    return await files.info(query.path)


@routes.post("/files/folder", "CreateFolder", status=201)
async def create_folder(query: FolderQuery, files: Files) -> None:
    """Create a directory, and its parents where they are missing."""
    await files.create_folder(query.path, query.mode)


@routes.delete("/files", "DeleteFile", status=204)
async def delete(query: DeleteQuery, files: Files) -> None:
    """Delete a file, a link, or with `recursive=true` a directory."""
    await files.delete(query.path, recursive=query.recursive == "true")


@routes.post("/files/move", "MoveFile")
async def move(query: MoveQuery, files: Files) -> None:
    """Rename or move a file or directory; an existing destination is never replaced."""
    await files.move(query.source, query.destination)


@routes.post("/files/permissions", "SetFilePermissions")
async def set_permissions(query: PermissionsQuery, files: Files) -> None:
    """Change a file's mode, owner and group."""
    await files.set_permissions(query.path, mode=query.mode, owner=query.owner, group=query.group)


@routes.get("/files/download", "DownloadFile", produces=_BYTES)
async def download(request: web.Request, query: PathQuery, files: Files) -> web.StreamResponse:
    """Send a file; ranges and validators are understood."""
    async with files.download(query.path) as opened:
        return await send_file(request, opened, paths.base_name(query.path), files.threads)


@routes.post("/files/bulk-download", "DownloadFiles", produces=_FORM)
async def bulk_download(request: web.Request, body: DownloadRequest, files: Files) -> web.StreamResponse:
    """Send several files as parts of one form; a file that cannot be read is a part named `error`."""
    return await send_form(request, body.paths, files.download, files.threads)


@routes.post("/files/bulk-upload", "UploadFiles", consumes=_FORM)
async def bulk_upload(request: web.Request, files: Files) -> BulkUploadAnswer:
    """Store the files of a form of pairs, `files[N].path` before `files[N].file`."""
    reader = await form_reader(request, extra={"errors": ["invalid multipart form"]})
    return BulkUploadAnswer(files=await BulkUpload(reader, files.upload).receive())


@routes.post("/files/upload-v2", "UploadFile", consumes=_FORM)
async def upload(request: web.Request, query: PathQuery, files: Files) -> UploadAnswer:
    """Store one file: the form's part `file`, or the raw body of any other content type."""
    await receive_one(request, files.upload, query.path, raw=True)
    return UploadAnswer(name=paths.base_name(query.path), path=query.path)


@routes.post("/files/upload", "UploadFileDeprecated", consumes=_FORM)
async def upload_form(request: web.Request, query: PathQuery, files: Files) -> None:
    """Store one file, the form's part `file` (older SDKs)."""
    await receive_one(request, files.upload, query.path, raw=False)
