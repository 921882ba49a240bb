"""Following websocket frames in a stream of bytes."""

import pytest

from controlplane.states import DESIRED, MOVES, State, check_move
from toolbox.errors import Conflict
from toolbox.web.tunnel import FrameWatcher

FRAMES = [
    b"\x81\x05hello",
    b"\x82\x00",
    b"\x82\x7e\x00\x80" + bytes(128),
    b"\x82\x7f" + (70000).to_bytes(8, "big") + bytes(70000),
    b"\x89\x83" + bytes(4) + b"abc",
]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000, 1 << 20])
def test_frames_in_pieces_of_any_size(step: int) -> None:
    watcher, data, ends = FrameWatcher(), b"".join(FRAMES), set()
    at = 0
    for frame in FRAMES:
        at += len(frame)
        ends.add(at)
    for start in range(0, len(data), step):
        watcher.feed(data[start : start + step])
        assert watcher.between_frames is (min(start + step, len(data)) in ends)
    assert not watcher.closed
    watcher.feed(b"\x88\x02\x03\xe8")
    assert watcher.closed
    assert not watcher.between_frames


def test_every_state_has_its_moves() -> None:
    assert MOVES.keys() == set(State)
    # Of these the wish stays what it was.
    kept = {State.ERROR, State.BUILD_FAILED, State.RESIZING, State.SNAPSHOTTING, State.FORKING}
    assert set(DESIRED) == set(State) - kept
    for source in State:
        # Whatever happened, a sandbox can be deleted.
        assert source in (State.DESTROYING, State.DESTROYED) or State.DESTROYING in MOVES[source]
    with pytest.raises(Conflict):
        check_move("box", State.STOPPED, State.STARTED)
