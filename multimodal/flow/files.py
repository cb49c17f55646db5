"""Flow in files: Middlebury's `.flo`, KITTI's 16-bit PNG and `.pfm`, read and written to the last bit.

A flow is `[2, H, W]` float32: how many pixels to the right and down a pixel of the first picture has moved in the
second. Beside it stands `[H, W]` bool: where the flow is known.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from multimodal.common.errors import DataError

# Middlebury's code: its tag reads "PIEH" as bytes, and a flow beyond this many pixels means "unknown".
FLO_TAG = np.float32(202021.25).tobytes()
FLO_UNKNOWN = 1e9
FLO_WRITTEN_UNKNOWN = np.float32(1e10)
# KITTI's development kit: 64 steps a pixel, zero at 2^15, and a third channel that says whether the flow is known.
KITTI_STEPS = 64.0
KITTI_ZERO = 32768
# A header that claims more than this is damaged: refused before any buffer of its size exists.
MAX_PIXELS = 8192 * 8192


def read_flow(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a flow; the file's ending (`.flo`, `.png`, `.pfm`) tells the format.

    Args:
        path: the file.

    Returns:
        Flow `[2, H, W]` float32 in pixels (right, down), 0 where it is unknown; and `[H, W]` bool, true where known.

    Raises:
        DataError: the file is missing, damaged or of another kind; the message names it and the remedy.
    """
    if not path.is_file():
        raise DataError(f"{path} is no file; name a flow as .flo, .png (KITTI) or .pfm")
    reader = {".flo": _read_flo, ".png": _read_kitti, ".pfm": _read_pfm}.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} has the ending {path.suffix!r}; flow is read from .flo, .png (KITTI) and .pfm")
    flow, known = reader(path)
    return np.ascontiguousarray(np.where(known, flow, np.float32(0))), known


def write_flow(path: Path, flow: np.ndarray, known: np.ndarray | None = None) -> None:
    """Write a flow; the file's ending (`.flo`, `.png`, `.pfm`) tells the format.

    `.flo` and `.pfm` keep every bit of a known flow. KITTI's PNG rounds to 1/64 pixel, ties to even. An unknown flow is
    1e10 in `.flo`, zero in all channels in KITTI's PNG, and not-a-number in `.pfm`, which has no mark of its own.

    Args:
        path: the file to write.
        flow: `[2, H, W]` in pixels (right, down).
        known: `[H, W]` bool; None: all of it is known.

    Raises:
        DataError: another ending, another shape, a known flow that is not finite, or one that the format cannot hold.
    """
    flow = np.asarray(flow, np.float32)
    if flow.ndim != 3 or flow.shape[0] != 2:
        raise DataError(f"{path}: flow has the shape {flow.shape}; expected [2, H, W]")
    known = np.ones(flow.shape[1:], bool) if known is None else np.asarray(known, bool)
    if known.shape != flow.shape[1:]:
        raise DataError(f"{path}: the map of what is known is {known.shape}, the flow {flow.shape[1:]}")
    if not np.isfinite(flow[:, known]).all():
        raise DataError(f"{path}: the flow is not finite; mark such pixels as unknown")
    writer = {".flo": _write_flo, ".png": _write_kitti, ".pfm": _write_pfm}.get(path.suffix.lower())
    if writer is None:
        raise DataError(f"{path} has the ending {path.suffix!r}; flow is written as .flo, .png (KITTI) and .pfm")
    writer(path, flow, known)


def _read_flo(path: Path) -> tuple[np.ndarray, np.ndarray]:
    data = path.read_bytes()
    if data[:4] != FLO_TAG:
        raise DataError(f"{path} begins with {data[:4]!r}, a .flo file with {FLO_TAG!r}; it is another kind of file")
    if len(data) < 12:
        raise DataError(f"{path} ends inside its header; copy it anew")
    width, height = (int(side) for side in np.frombuffer(data, "<i4", 2, offset=4))
    _check_size(path, width, height)
    expected = 12 + 8 * width * height
    if len(data) != expected:
        raise DataError(f"{path} has {len(data)} bytes, but {width} x {height} pixels take {expected}; copy it anew")
    flow = np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2).transpose(2, 0, 1)
    return flow, (np.abs(flow) <= FLO_UNKNOWN).all(0)  # not-a-number compares as false: unknown


def _write_flo(path: Path, flow: np.ndarray, known: np.ndarray) -> None:
    if (np.abs(flow[:, known]) > FLO_UNKNOWN).any():
        raise DataError(f"{path}: a flow beyond {FLO_UNKNOWN:g} pixels means unknown in .flo; mark it so")
    height, width = known.shape
    pixels = np.where(known, flow, FLO_WRITTEN_UNKNOWN).transpose(1, 2, 0).astype("<f4")
    path.write_bytes(FLO_TAG + np.array([width, height], "<i4").tobytes() + pixels.tobytes())


def _read_kitti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    data = np.frombuffer(path.read_bytes(), np.uint8)
    stored = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if stored is None:
        raise DataError(f"{path} cannot be decoded as a PNG; copy it anew")
    if stored.dtype != np.uint16 or stored.ndim != 3 or stored.shape[2] != 3:
        channels = 1 if stored.ndim == 2 else stored.shape[2]
        raise DataError(
            f"{path} has {channels} channels of {stored.dtype}; KITTI's flow has 3 of uint16. Is it a picture?"
        )
    known = stored[..., 0] > 0  # OpenCV's order is blue, green, red: known, down, right
    flow = (stored[..., :0:-1].transpose(2, 0, 1).astype(np.float32) - KITTI_ZERO) / np.float32(KITTI_STEPS)
    return flow, known


def _write_kitti(path: Path, flow: np.ndarray, known: np.ndarray) -> None:
    steps = np.rint(np.where(known, flow, 0).astype(np.float64) * KITTI_STEPS) + KITTI_ZERO
    if steps.min(initial=KITTI_ZERO) < 0 or steps.max(initial=KITTI_ZERO) > 65535:
        raise DataError(f"{path}: KITTI's PNG holds up to 512 pixels, the flow has more; write .flo instead")
    stored = np.where(known, np.stack([np.ones(known.shape), steps[1], steps[0]]), 0).transpose(1, 2, 0)
    path.write_bytes(cv2.imencode(".png", np.ascontiguousarray(stored.astype(np.uint16)))[1].tobytes())


def _read_pfm(path: Path) -> tuple[np.ndarray, np.ndarray]:
    # Three lines of text (tag; width and height; scale, negative where little-endian), then rows from the bottom up.
    lines = path.read_bytes().split(b"\n", 3)
    try:
        tag, size, scale = (line.strip().decode("ascii") for line in lines[:3])
        width, height = (int(side) for side in size.split())
        order = "<f4" if float(scale) < 0 else ">f4"
    except ValueError as error:
        raise DataError(f"{path} has no header of a .pfm file; it is damaged or another kind of file") from error
    if tag != "PF":
        raise DataError(f"{path} has the tag {tag!r}; a flow in .pfm has 3 channels and the tag 'PF'")
    _check_size(path, width, height)
    data = lines[3] if len(lines) == 4 else b""
    if len(data) != 12 * width * height:
        raise DataError(
            f"{path} has {len(data)} bytes of pixels, but {width} x {height} take {12 * width * height}; copy it anew"
        )
    flow = np.frombuffer(data, order).reshape(height, width, 3)[::-1, :, :2].transpose(2, 0, 1).astype(np.float32)
    return flow, np.asarray(np.isfinite(flow).all(0))


def _write_pfm(path: Path, flow: np.ndarray, known: np.ndarray) -> None:
    height, width = known.shape
    pixels = np.zeros((height, width, 3), "<f4")
    pixels[..., :2] = np.where(known, flow, np.float32("nan")).transpose(1, 2, 0)
    path.write_bytes(f"PF\n{width} {height}\n-1.0\n".encode() + pixels[::-1].tobytes())


def _check_size(path: Path, width: int, height: int) -> None:
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise DataError(f"{path} claims {width} x {height} pixels; it is damaged: copy it anew")
