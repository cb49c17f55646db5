"""From decoded frames to RGB pictures as a player shows them: upright, square pixels, at asked-for instants."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

# Matroska and Flash round time stamps to a millisecond: a frame that is late by no more than that counts as due. It is
# no whole number of ticks of any common clock, so that rounding of the sums does not decide.
TIME_TOLERANCE = 1.13e-3
# A header that claims more than this is damaged or not meant for us: refused before any buffer of its size exists.
MAX_PIXELS = 8192 * 8192
UNSPECIFIED_COLORSPACE = 2  # of ISO/IEC 23091-2; PyAV's enumeration has no name for it


def pixel_aspect(video: av.VideoStream) -> float:
    """Width of a pixel over its height; 1 where the header says nothing or nonsense."""
    ratio = video.sample_aspect_ratio
    return float(ratio) if ratio and Fraction(1, 8) <= ratio <= 8 else 1.0


@dataclass(frozen=True)
class _Orientation:
    """One of the eight ways in which a stored frame can lie: turn it over its main diagonal, then mirror the axes."""

    transposed: bool
    mirrored_rows: bool
    mirrored_columns: bool

    def upright(self, stored: np.ndarray) -> np.ndarray:
        """The `[H, W, 3]` picture as it is to be shown."""
        if self.transposed:
            stored = stored.swapaxes(0, 1)
        return np.ascontiguousarray(
            stored[:: -1 if self.mirrored_rows else 1, :: -1 if self.mirrored_columns else 1],
        )


def _orientation(frame: VideoFrame) -> _Orientation | None:
    """What the frame's display matrix says, to the nearest right angle; None without one.

    The matrix `[a b u; c d v; x y w]` takes the stored point (p, q) to (a p + c q, b p + d q): ISO/IEC 14496-12,
    6.2.2. FFmpeg puts it on every frame, whether it stands in the container or in the stream.
    """
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        matrix = _without_unknown_side_data(frame).side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return None
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    transposed = abs(b) + abs(c) > abs(a) + abs(d)
    down, right = (b, c) if transposed else (d, a)
    return _Orientation(transposed, mirrored_rows=down < 0, mirrored_columns=right < 0)


# Kinds of side data that came to FFmpeg after PyAV's list of them was made, such as a photograph's EXIF.
FIRST_UNKNOWN = max(int(str(kind.value)) for kind in SideDataType) + 1
UNKNOWN_SIDE_DATA = range(FIRST_UNKNOWN, FIRST_UNKNOWN + 8)


def _without_unknown_side_data(frame: VideoFrame) -> VideoFrame:
    """The same frame as PyAV can show it: a single kind that it does not know hides all side data of a frame."""
    graph = av.filter.Graph()
    nodes = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1))]
    nodes += [graph.add("sidedata", f"mode=delete:type={kind}") for kind in UNKNOWN_SIDE_DATA]
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    graph.push(frame)
    result = graph.pull()
    assert isinstance(result, VideoFrame)
    return result


def shown_size(frame: VideoFrame, aspect: float) -> tuple[int, int]:
    """Width and height of a frame when it is shown upright in square pixels."""
    width, height = max(1, round(frame.width * aspect)), frame.height
    orientation = _orientation(frame)
    return (height, width) if orientation is not None and orientation.transposed else (width, height)


def _to_rgb(frame: VideoFrame, aspect: float, short_side: int | None, reformatter: VideoReformatter) -> np.ndarray:
    """uint8 `[H, W, 3]`, upright, square pixels, shrunk (never enlarged) so that the shorter side is `short_side`."""
    if frame.width * frame.height > MAX_PIXELS:
        raise ValueError(f"a frame of {frame.width} x {frame.height} pixels")
    width, height = max(1, round(frame.width * aspect)), frame.height
    if short_side is not None and min(width, height) > short_side:
        scale = short_side / min(width, height)
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
    # Untagged video of high-definition size is BT.709 by custom; swscale would take BT.601 for it.
    colorspace = frame.colorspace
    if colorspace == UNSPECIFIED_COLORSPACE:
        colorspace = Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
    shrinks = width < frame.width or height < frame.height
    rgb = reformatter.reformat(
        frame,
        width=width,
        height=height,
        format="rgb24",
        src_colorspace=colorspace,
        src_color_range=frame.color_range,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.AREA if shrinks else Interpolation.BICUBIC,
        threads=1,
    )
    orientation = _orientation(frame)
    return rgb.to_ndarray() if orientation is None else orientation.upright(rgb.to_ndarray())


class Picture:
    """Puts the frames of a stream into the slots of a window as they are decoded."""

    def __init__(self, times: np.ndarray, aspect: float, short_side: int | None, frame_length: float) -> None:
        """`times` of the slots and `frame_length` are in seconds; `aspect` is that of a pixel."""
        self.times = times
        self.aspect = aspect
        self.short_side = short_side
        self.frame_length = frame_length
        self.slots: list[np.ndarray] = []
        self.stamps: list[float] = []
        self.first_stamp: float | None = None
        self.taken = 0
        # One for all frames of a window: setting up a conversion takes longer than to convert a small frame.
        self._reformatter = VideoReformatter()
        self._shown: VideoFrame | None = None
        self.shown_stamp = -math.inf
        self._shown_rgb: np.ndarray | None = None

    @property
    def complete(self) -> bool:
        """Whether no later frame can change a slot."""
        return len(self.slots) == len(self.times) or self.shown_stamp >= self.times[-1] - TIME_TOLERANCE

    def add(self, frame: VideoFrame, stamp: float) -> None:
        """Take the next frame in order of presentation, shown from `stamp` on."""
        self.taken += 1
        if self.first_stamp is None:
            self.first_stamp = stamp
        if stamp <= self.shown_stamp and self._shown is not None:
            return  # time stands still or runs backwards: only damaged files do
        if self._shown is None:
            self._show(frame, stamp)  # a window that begins before the first frame shows that frame
        self._fill(until=stamp - TIME_TOLERANCE)
        self._show(frame, stamp)

    def finish(self) -> tuple[np.ndarray | None, int]:
        """Frames `[T, H, W, 3]` and how many slots lie before the end of the last frame."""
        if self._shown is None:
            return None, 0
        end = self.shown_stamp + self.frame_length
        covered = max(len(self.slots), int(np.sum(self.times < end - TIME_TOLERANCE)))
        self._fill(until=math.inf)
        shape = self.slots[0].shape
        if any(slot.shape != shape for slot in self.slots):
            raise ValueError("the frame size changes inside the clip")
        return np.stack(self.slots), covered

    def _show(self, frame: VideoFrame, stamp: float) -> None:
        self._shown, self.shown_stamp, self._shown_rgb = frame, stamp, None

    def _fill(self, until: float) -> None:
        while len(self.slots) < len(self.times) and self.times[len(self.slots)] < until:
            if self._shown_rgb is None:
                assert self._shown is not None
                self._shown_rgb = _to_rgb(self._shown, self.aspect, self.short_side, self._reformatter)
            self.slots.append(self._shown_rgb)
            self.stamps.append(self.shown_stamp)
