"""Videos: GIF and MP4 files of frames."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

VIVID = 60  # difference of a colour's largest and smallest part, of 255


def write_gif(path: str | Path, frames: Iterable[np.ndarray], fps: float = 12.0, width: int | None = None) -> Path:
    """Writes frames as an endless GIF; `width` scales them down.

    Raises:
        ValueError: no frames.
    """
    images = [_scaled(Image.fromarray(frame), width) for frame in frames]
    if not images:
        raise ValueError(f"no frames for {path}")
    # One palette for all frames: no flicker, and unchanged areas compress.
    palette = _palette([images[index] for index in (0, len(images) // 2, len(images) - 1)])
    indexed = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    duration = round(1000 / fps)
    indexed[0].save(path, save_all=True, append_images=indexed[1:], duration=duration, loop=0, optimize=True)
    return Path(path)


def write_mp4(path: str | Path, frames: Iterable[np.ndarray], fps: float = 16.0) -> Path:
    """Writes frames (even height and width) as H.264 MP4.

    Raises:
        ValueError: no frames, or an odd height or width.
    """
    import av

    frames = list(frames)
    if not frames:
        raise ValueError(f"no frames for {path}")
    height, width = frames[0].shape[:2]
    if height % 2 or width % 2:
        raise ValueError(f"frames are {width} x {height}; H.264 needs even numbers")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=round(fps))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "20", "preset": "fast"}
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return Path(path)


def _scaled(image: Image.Image, width: int | None) -> Image.Image:
    if width is None or width >= image.width:
        return image
    return image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)


def _palette(images: list[Image.Image]) -> Image.Image:
    """A palette image for `images`; half of the colours are for what is vivid there, which are few pixels."""
    pixels = np.concatenate([np.asarray(image).reshape(-1, 3) for image in images])
    vivid = pixels[np.ptp(pixels, axis=1) > VIVID]
    if len(vivid):
        pixels = np.concatenate([pixels, np.resize(vivid, pixels.shape)])
    return Image.fromarray(pixels[None]).quantize(256, Image.Quantize.MEDIANCUT)
