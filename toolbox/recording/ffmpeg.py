"""How ffmpeg is asked to film a part of a screen."""

import shutil
from collections.abc import Mapping

from toolbox.recording.errors import FfmpegNotFound
from toolbox.recording.models import Region

_GROUP_SECONDS = 2
"""From one whole picture to the next; pictures between them are differences."""
_FRAGMENT_MICROSECONDS = 1_000_000
"""What is lost at most when ffmpeg is killed."""
_THREADS = "2"


def find(environ: Mapping[str, str]) -> str:
    """Return the path of ffmpeg. Raises `FfmpegNotFound`."""
    program = shutil.which("ffmpeg", path=environ.get("PATH"))
    if program is None:
        raise FfmpegNotFound
    return program


def even_size(region: Region) -> tuple[int, int]:
    """Return the size of the picture: H.264 halves the resolution of colour, so it has to be even."""
    return region.width + region.width % 2, region.height + region.height % 2


def command(program: str, display: str, region: Region, *, fps: int, cursor: bool) -> list[str]:
    """Return the command that films `region` of `display` and writes MP4 to standard output.

    The file's index comes in pieces (fragments) instead of at its end, so it can be played wherever it stops.
    """
    width, height = even_size(region)
    pad = ["-vf", f"format=yuv420p,pad={width}:{height}"] if (width, height) != (region.width, region.height) else []
    return [
        *(program, "-hide_banner", "-nostdin", "-loglevel", "error"),
        *("-f", "x11grab", "-draw_mouse", str(int(cursor)), "-framerate", str(fps)),
        *("-video_size", f"{region.width}x{region.height}", "-i", f"{display}+{region.x},{region.y}"),
        *pad,
        # Else it takes the rate from the first pictures, and those come fast when it was held up and catches up.
        *("-r", str(fps)),
        *("-c:v", "libx264", "-preset", "ultrafast", "-threads", _THREADS, "-pix_fmt", "yuv420p"),
        *("-g", str(_GROUP_SECONDS * fps), "-frag_duration", str(_FRAGMENT_MICROSECONDS)),
        *("-movflags", "+frag_keyframe+empty_moov+default_base_moof", "-f", "mp4", "pipe:1"),
    ]
