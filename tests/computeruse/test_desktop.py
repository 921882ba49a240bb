"""The desktop's life."""

from tests.conftest import Daemon


async def test_a_bare_desktop_starts_and_stops(bare: Daemon) -> None:
    for action in ("start", "stop", "stop", "start"):
        async with bare.http.post(f"/computeruse/{action}") as response:
            assert response.status == 200
