"""Creating, deleting, moving, changing permissions."""

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.files.conftest import FileServer
from toolbox.files import copies, moves


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


class TestFolder:
    @pytest.mark.parametrize(
        ("text", "mode"), [("755", 0o755), ("0777", 0o777), ("1777", 0o1777), ("000", 0), ("0o700", 0o700)]
    )
    async def test_the_mode_is_exact_and_parents_are_plain(self, server: FileServer, text: str, mode: int) -> None:
        query = {"path": "new/x/y", "mode": text}
        assert await server.call("POST", "/files/folder", params=query) == (201, b"")
        assert mode_of(server.work / "new/x/y") == mode
        assert mode_of(server.work / "new/x") == 0o755

    async def test_the_default_mode(self, server: FileServer) -> None:
        await server.call("POST", "/files/folder?path=d")
        assert mode_of(server.work / "d") == 0o755

    async def test_an_existing_directory_stays_as_it_is(self, server: FileServer) -> None:
        (server.work / "d").mkdir(mode=0o700)
        assert (await server.call("POST", "/files/folder?path=d&mode=755"))[0] == 201
        assert mode_of(server.work / "d") == 0o700

    async def test_an_inherited_setgid_bit_stays(self, server: FileServer) -> None:
        (server.work / "shared").mkdir()
        (server.work / "shared").chmod(0o2775)
        await server.call("POST", "/files/folder?path=shared/d&mode=750")
        assert mode_of(server.work / "shared/d") == 0o2750

    async def test_refusals(self, server: FileServer) -> None:
        (server.work / "file").write_text("")
        (server.work / "dangling").symlink_to("nowhere")
        for path in ("file", "file/below", "dangling", "a%00b", "x" * 300):
            await server.refused(400, "INVALID_FILE_PATH", "POST", f"/files/folder?path={path}")
        for mode in ("9z", "888", "77777", "-1", "7_7", ""):
            await server.refused(400, "BAD_REQUEST", "POST", f"/files/folder?path=d&mode={mode}")
        await server.refused(400, "BAD_REQUEST", "POST", "/files/folder?mode=755")
        assert not (server.work / "d").exists()

    async def test_many_at_once(self, server: FileServer) -> None:
        deep = "/".join("d" * 40)
        statuses = [await server.call("POST", f"/files/folder?path={deep}") for _ in range(2)]
        assert [status for status, _ in statuses] == [201, 201]


class TestDelete:
    async def test_a_file(self, server: FileServer) -> None:
        (server.work / "file").write_text("")
        assert await server.call("DELETE", "/files?path=file") == (204, b"")
        await server.refused(404, "FILE_NOT_FOUND", "DELETE", "/files?path=file")
        await server.refused(404, "FILE_NOT_FOUND", "DELETE", "/files?path=file&recursive=true")

    @pytest.mark.parametrize("recursive", ["", "&recursive=false", "&recursive=1", "&recursive=True"])
    async def test_a_directory_needs_the_word(self, server: FileServer, recursive: str) -> None:
        (server.work / "d").mkdir()
        (server.work / "to-d").symlink_to("d")
        await server.refused(400, "INVALID_FILE_PATH", "DELETE", f"/files?path=d{recursive}")
        await server.refused(400, "INVALID_FILE_PATH", "DELETE", f"/files?path=to-d{recursive}")
        assert (server.work / "to-d").is_symlink()

    async def test_links_are_never_followed(self, server: FileServer) -> None:
        (server.work / "keep").mkdir()
        (server.work / "keep/file").write_text("")
        (server.work / "d").mkdir()
        (server.work / "d/link").symlink_to("../keep")
        (server.work / "link").symlink_to("keep")
        assert (await server.call("DELETE", "/files/?path=link/&recursive=true"))[0] == 204
        assert (await server.call("DELETE", "/files?path=d&recursive=true"))[0] == 204
        assert sorted(each.name for each in server.work.iterdir()) == ["keep"]
        assert (server.work / "keep/file").exists()

    async def test_dangling_links_loops_and_fifos(self, server: FileServer) -> None:
        (server.work / "dangling").symlink_to("nowhere")
        (server.work / "loop").symlink_to("loop")
        os.mkfifo(server.work / "fifo")
        for name in ("dangling", "loop", "fifo"):
            assert (await server.call("DELETE", f"/files?path={name}"))[0] == 204
        assert list(server.work.iterdir()) == []

    @pytest.mark.parametrize("path", ["/", "//", "/.", "/tmp/..", ".", "d/.", "d/..", "./"])
    async def test_the_root_and_dots_are_refused(self, server: FileServer, path: str) -> None:
        (server.work / "d").mkdir()
        query = {"path": path, "recursive": "true"}
        await server.refused(400, "INVALID_FILE_PATH", "DELETE", "/files", params=query)
        assert (server.work / "d").is_dir()

    async def test_deeper_than_a_path_can_be(self, server: FileServer) -> None:
        here = os.open(server.work, os.O_RDONLY)
        for _ in range(600):
            os.mkdir("deep-down", dir_fd=here)
            below = os.open("deep-down", os.O_RDONLY, dir_fd=here)
            os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=below))
            os.close(here)
            here = below
        os.close(here)
        assert (await server.call("DELETE", "/files?path=deep-down&recursive=true"))[0] == 204
        assert list(server.work.iterdir()) == []

    async def test_while_somebody_writes_into_it(self, server: FileServer) -> None:
        directory = server.work / "busy"
        (directory / "sub").mkdir(parents=True)
        for number in range(200):
            (directory / "sub" / str(number)).write_text("")
        stop = threading.Event()

        def write() -> None:
            for number in range(2000):
                if stop.is_set():
                    return
                try:
                    (directory / "sub" / f"new{number}").write_text("")
                except FileNotFoundError:
                    return

        writer = threading.Thread(target=write)
        writer.start()
        status, _ = await server.call("DELETE", "/files?path=busy&recursive=true")
        stop.set()
        writer.join()
        assert status in (204, 409)
        assert directory.exists() == (status == 409)


class TestMove:
    async def test_files_directories_and_links(self, server: FileServer) -> None:
        (server.work / "file").write_text("content")
        (server.work / "d").mkdir()
        (server.work / "dangling").symlink_to("nowhere")
        for old, new in (("file", "d/file2"), ("d", "d2"), ("dangling", "d2/dangling"), ("d2/", "d3/")):
            query = {"source": old, "destination": new}
            assert await server.call("POST", "/files/move", params=query) == (200, b"")
        assert (server.work / "d3/file2").read_text() == "content"
        assert os.readlink(server.work / "d3/dangling") == "nowhere"

    @pytest.mark.parametrize("destination", ["file", "d", "link", "source", "empty"])
    async def test_nothing_is_replaced(self, server: FileServer, destination: str) -> None:
        (server.work / "source").write_text("new")
        (server.work / "file").write_text("old")
        (server.work / "link").symlink_to("file")
        (server.work / "d").mkdir()
        (server.work / "empty").mkdir()
        for source in ("source", "d"):
            if source != destination:
                query = {"source": source, "destination": destination}
                await server.refused(409, "CONFLICT", "POST", "/files/move", params=query)
        assert (server.work / "source").read_text() == "new"
        assert (server.work / "file").read_text() == "old"

    async def test_a_dangling_link_is_replaced(self, server: FileServer) -> None:
        (server.work / "file").write_text("content")
        (server.work / "dangling").symlink_to("nowhere")
        assert (await server.call("POST", "/files/move?source=file&destination=dangling"))[0] == 200
        assert [(each.name, each.read_text()) for each in server.work.iterdir()] == [("dangling", "content")]

    @pytest.mark.parametrize("destination", ["d/inside", "d/e/d", "d/e/new", "link/new", "d/../d/x"])
    async def test_a_directory_never_goes_into_itself(self, server: FileServer, destination: str) -> None:
        (server.work / "d/e").mkdir(parents=True)
        (server.work / "d/file").write_text("content")
        (server.work / "link").symlink_to("d")
        query = {"source": "d", "destination": destination}
        await server.refused(400, "INVALID_FILE_PATH", "POST", "/files/move", params=query)
        assert sorted(
            str(each.relative_to(server.work)) for each in server.work.rglob("*") if "link" not in str(each)
        ) == [
            "d",
            "d/e",
            "d/file",
        ]

    async def test_refusals(self, server: FileServer) -> None:
        (server.work / "file").write_text("")
        await server.refused(404, "FILE_NOT_FOUND", "POST", "/files/move?source=none&destination=x")
        await server.refused(404, "FILE_NOT_FOUND", "POST", "/files/move?source=file&destination=none/x")
        await server.refused(400, "INVALID_FILE_PATH", "POST", "/files/move?source=file&destination=file/x")
        await server.refused(400, "BAD_REQUEST", "POST", "/files/move?source=file")
        await server.refused(400, "BAD_REQUEST", "POST", "/files/move?destination=file")

    async def test_where_the_kernel_cannot_refuse_to_replace(
        self, server: FileServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unsupported(source: str, destination: str, flags: int) -> None:
            raise OSError(22, "invalid argument", source, None, destination)

        monkeypatch.setattr(moves, "_renameat2", unsupported)
        for name in ("a", "b"):
            (server.work / name).write_text(name)
        (server.work / "d").mkdir()
        (server.work / "e").mkdir()
        for source, destination in (("a", "b"), ("d", "e"), ("a", "d")):
            query = {"source": source, "destination": destination}
            await server.refused(409, "CONFLICT", "POST", "/files/move", params=query)
        for source, destination in (("a", "a2"), ("d", "d2")):
            query = {"source": source, "destination": destination}
            assert (await server.call("POST", "/files/move", params=query))[0] == 200
        assert sorted(each.name for each in server.work.iterdir()) == ["a2", "b", "d2", "e"]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """Return a directory on another file system."""
    with other_file_system(tmp_path) as directory:
        yield directory


class other_file_system:  # noqa: N801 -- used like a function
    """A directory in /dev/shm, which is never on the disk of a temporary directory."""

    def __init__(self, tmp_path: Path) -> None:
        self._path = Path("/dev/shm") / f"toolbox-test-{os.getpid()}-{tmp_path.name}"

    def __enter__(self) -> Path:
        self._path.mkdir()
        return self._path

    def __exit__(self, *_: object) -> None:
        import shutil

        shutil.rmtree(self._path)


class TestMoveAcross:
    def fill(self, tree: Path) -> None:
        (tree / "sub").mkdir(parents=True)
        (tree / "sub" / "data").write_bytes(b"content" * 300_000)
        (tree / "sub" / "data").chmod(0o4750)
        (tree / "hard").hardlink_to(tree / "sub" / "data")
        (tree / "link").symlink_to("sub/data")
        (tree / "dangling").symlink_to("nowhere")
        os.mkfifo(tree / "fifo")
        with (tree / "sparse").open("wb") as sparse:
            sparse.seek(64 << 20)
            sparse.write(b"end")
            sparse.truncate(128 << 20)
        if os.getuid() == 0:
            os.chown(tree / "sub" / "data", 12, 34)
            os.chmod(tree / "sub" / "data", 0o4750)
        os.utime(tree / "sub" / "data", ns=(1, 2_000_000_003))
        tree.chmod(0o500)
        os.utime(tree, ns=(5, 6))

    async def test_a_tree_arrives_as_it_was(self, server: FileServer, elsewhere: Path) -> None:
        self.fill(server.work / "tree")
        old = (server.work / "tree/sub/data").stat()
        query = {"source": "tree", "destination": str(elsewhere / "moved")}
        assert await server.call("POST", "/files/move", params=query) == (200, b"")
        assert list(server.work.iterdir()) == []
        assert [each.name for each in elsewhere.iterdir()] == ["moved"]
        moved = elsewhere / "moved"
        new = (moved / "sub/data").stat()
        kept = ("st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns", "st_nlink")
        assert [getattr(new, name) for name in kept] == [getattr(old, name) for name in kept]
        assert (moved / "hard").samefile(moved / "sub/data")
        assert (moved / "sub/data").read_bytes() == b"content" * 300_000
        assert os.readlink(moved / "dangling") == "nowhere"
        assert stat.S_ISFIFO((moved / "fifo").stat().st_mode)
        sparse = (moved / "sparse").stat()
        assert (sparse.st_size, sparse.st_blocks * 512 < 1 << 20) == (128 << 20, True)
        assert (mode_of(moved), moved.stat().st_mtime_ns) == (0o500, 6)

    async def test_a_file(self, server: FileServer, elsewhere: Path) -> None:
        (server.work / "file").write_text("content")
        query = {"source": "file", "destination": str(elsewhere / "file")}
        assert (await server.call("POST", "/files/move", params=query))[0] == 200
        assert (elsewhere / "file").read_text() == "content"
        assert not (server.work / "file").exists()

    async def test_nothing_is_replaced(self, server: FileServer, elsewhere: Path) -> None:
        (server.work / "file").write_text("new")
        (elsewhere / "file").write_text("old")
        query = {"source": "file", "destination": str(elsewhere / "file")}
        await server.refused(409, "CONFLICT", "POST", "/files/move", params=query)
        assert (elsewhere / "file").read_text() == "old"

    async def test_a_tree_that_changes_meanwhile_stays(
        self, server: FileServer, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (server.work / "tree").mkdir()
        copy_tree = copies.copy_tree

        def copy_and_change(source: str, target: str) -> None:
            copy_tree(source, target)
            (server.work / "tree" / "late").write_text("do not lose me")

        monkeypatch.setattr(moves, "copy_tree", copy_and_change)
        query = {"source": "tree", "destination": str(elsewhere / "tree")}
        await server.refused(409, "CONFLICT", "POST", "/files/move", params=query)
        assert (server.work / "tree" / "late").read_text() == "do not lose me"
        assert list(elsewhere.iterdir()) == []

    async def test_an_error_on_the_way_leaves_everything(
        self, server: FileServer, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (server.work / "tree").mkdir()
        (server.work / "tree" / "file").write_text("content")

        def fail(*_: object) -> None:
            raise OSError(5, "input/output error")

        monkeypatch.setattr(copies, "copy_content", fail)
        query = {"source": "tree", "destination": str(elsewhere / "tree")}
        await server.refused(500, "FILE_READ_FAILED", "POST", "/files/move", params=query)
        assert (server.work / "tree" / "file").read_text() == "content"
        assert list(elsewhere.iterdir()) == []


class TestPermissions:
    async def test_mode_with_special_bits(self, server: FileServer) -> None:
        file = server.work / "file"
        file.write_text("")
        for text, mode in (("600", 0o600), ("4755", 0o4755), ("1777", 0o1777), ("0", 0), ("0644", 0o644)):
            assert await server.call("POST", f"/files/permissions?path=file&mode={text}") == (200, b"")
            assert mode_of(file) == mode

    async def test_owner_and_group(self, server: FileServer) -> None:
        file = server.work / "file"
        file.write_text("")
        for owner, group in (("nobody", "nogroup"), (str(os.getuid()), str(os.getgid()))):
            query = {"path": "file", "owner": owner, "group": group, "mode": "6755"}
            assert (await server.call("POST", "/files/permissions", params=query))[0] == 200
            assert (file.owner() == owner) or file.stat().st_uid == os.getuid()
            assert mode_of(file) == 0o6755

    async def test_nothing_asked_for(self, server: FileServer) -> None:
        (server.work / "file").write_text("")
        assert (await server.call("POST", "/files/permissions?path=file"))[0] == 200
        await server.refused(404, "FILE_NOT_FOUND", "POST", "/files/permissions?path=none")

    async def test_refusals(self, server: FileServer) -> None:
        file = server.work / "file"
        file.write_text("")
        before = file.stat().st_mode
        for query in ("mode=xyz", "mode=999", "mode=77777", "owner=no-such-user", "group=no-such-group", "owner=-1"):
            await server.refused(400, "BAD_REQUEST", "POST", f"/files/permissions?path=file&{query}")
        await server.refused(400, "BAD_REQUEST", "POST", "/files/permissions?path=file&mode=600&owner=no-such-user")
        await server.refused(404, "FILE_NOT_FOUND", "POST", "/files/permissions?path=none&mode=600")
        await server.refused(400, "BAD_REQUEST", "POST", "/files/permissions?mode=600")
        assert file.stat().st_mode == before
