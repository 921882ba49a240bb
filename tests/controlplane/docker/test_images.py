"""Images of every kind: found, built, and what of them becomes the sandbox's."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from controlplane.drivers.base import BuildFailed
from tests.controlplane.docker.conftest import DEBIAN, Driven, Owned
from tests.image.conftest import Engine
from toolbox.errors import BadRequest

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


def tar_of(path: Path, files: dict[str, str]) -> Path:
    """Write a tar file of text files and return it."""
    with tarfile.open(path, "w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return path


class Lines:
    """A log that is kept."""

    def __init__(self) -> None:
        self.data = b""

    def __call__(self, data: bytes) -> None:
        self.data += data


@pytest.mark.parametrize("kind", ["musl", "without-bash"])
async def test_any_image_becomes_a_sandbox(driven: Driven, image_of: Callable[[str], str], kind: str) -> None:
    image = await driven.driver.pull(image_of(kind), kind, Lines())
    access = await driven.start("one", image=image)
    assert (
        await driven.execute(access, "echo $((6 * 7)); pwd; test -e /bin/bash || echo no bash") == "42\n/root\nno bash"
    )
    answer = await driven.call(access, "POST", "/process/code-run", {"code": "print(6 * 7)", "language": "python"})
    assert answer["result"] == "42\n"
    await driven.driver.stop("one", force=False)
    assert await driven.execute(await driven.driver.start(driven.launch("one", image=image)), "echo again") == "again"


async def test_built_image_gives_its_command_directory_variables_and_user(driven: Driven, tmp_path: Path) -> None:
    dockerfile = f"""
        FROM {DEBIAN}
        RUN useradd --create-home worker && echo told while building
        COPY first second /data/
        ENV COLOUR="dark blue" HOME_OF=image
        WORKDIR /data
        USER worker
        ENTRYPOINT ["/bin/sh", "-c"]
        CMD ["echo $COLOUR $MORE > /tmp/started; id -un >> /tmp/started; sleep 1000"]
    """
    contexts = [tar_of(tmp_path / "a.tar", {"first": "old", "second": "2"}), tar_of(tmp_path / "b.tar", {"first": "1"})]
    lines = Lines()
    image = await driven.driver.build(dockerfile, contexts, "built", lines)
    assert b"told while building" in lines.data
    assert (image.work_dir, image.user, image.env["COLOUR"]) == ("/data", "worker", "dark blue")
    assert image.entrypoint[:2] == ["/bin/sh", "-c"]
    assert image.size > 0
    access = await driven.start("one", image=image, user=image.user, env={"MORE": "and more"})
    shown = (
        "pwd; cat first second; id -un; echo $HOME $HOME_OF; while [ ! -s /tmp/started ]; do :; done; cat /tmp/started"
    )
    assert (await driven.execute(access, shown)).split("\n") == [
        "/data",
        "12worker",
        "/home/worker image",
        "dark blue and more",
        "worker",
    ]
    own = await driven.start(
        "two", image=image, user="root", entrypoint=["/bin/sh", "-c", "id -un > /tmp/mine; sleep 9"]
    )
    assert await driven.execute(own, "while [ ! -s /tmp/mine ]; do :; done; cat /tmp/mine; ls /tmp") == "root\nmine"


async def test_build_that_fails(driven: Driven, owned: Owned) -> None:
    lines = Lines()
    with pytest.raises(BuildFailed, match=r"exit status 3|non-zero code: 3"):
        await driven.driver.build(f"FROM {DEBIAN}\nRUN echo before the end && exit 3\n", [], "broken", lines)
    assert b"before the end" in lines.data
    with pytest.raises(BuildFailed):
        await driven.driver.build("FRM nothing\n", [], "broken", lines)
    assert owned.find(driven.state_dir)["images"] == []


async def test_context_that_is_no_tar(driven: Driven, tmp_path: Path) -> None:
    (tmp_path / "broken.tar").write_text("not a tar file")
    with pytest.raises(BuildFailed, match="build context cannot be read"):
        await driven.driver.build(f"FROM {DEBIAN}\n", [tmp_path / "broken.tar"], "broken", Lines())


async def test_image_that_is_nowhere(driven: Driven) -> None:
    with pytest.raises(BuildFailed, match=r"cannot pull registry\.invalid/nothing:1"):
        await driven.driver.pull("registry.invalid/nothing:1", "none", Lines())
    with pytest.raises(BadRequest, match="not a name"):
        await driven.driver.pull("two words", "none", Lines())


async def test_removed_image_goes_with_the_last_sandbox_of_it(driven: Driven, owned: Owned, engine: Engine) -> None:
    image = await driven.driver.build(f"FROM {DEBIAN}\nRUN echo x > /x\n", [], "built", Lines())
    access = await driven.start("one", image=image)
    await driven.driver.remove_image(image.ref)
    assert await driven.execute(access, "cat /x") == "x"
    await driven.driver.delete("one")
    assert owned.find(driven.state_dir)["images"] == []
    pulled = await driven.driver.pull(DEBIAN, "pulled", Lines())
    await driven.driver.remove_image(pulled.ref)
    await driven.driver.remove_image(pulled.ref)
    engine.call("image", "inspect", DEBIAN)


async def test_image_without_a_shell(driven: Driven) -> None:
    image = await driven.driver.build("FROM scratch\nENV A=b\n", [], "bare", Lines())
    access = await driven.start("one", image=image)
    answer = await driven.call(access, "POST", "/process/code-run", {"code": "print(1)", "language": "python"})
    assert answer["result"] == "1\n"
