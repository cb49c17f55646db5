"""A generator of labelled audio-visual clips, written as real MP4 files.

Every clip shows one coloured sprite on a shaded background and plays one tone. Eight classes in three groups:

| class | told by | what defines it |
|---|---|---|
| `glide-together`, `glide-apart` | correlation | sprite moves up or down, pitch too: same or opposite direction |
| `flash-together`, `flash-apart` | correlation | sprite lit in turns, tone sounds in turns: the same or opposite ones |
| `ring`, `cross` | picture | sprite of that shape drifts sideways, steady tone (all other classes show a disc) |
| `buzz`, `trill` | sound | harmonics of a saw-tooth, or two alternating pitches; a disc drifts sideways |

In the correlation groups both directions (both orders of the turns) are equally likely in picture and sound alike, so
either modality alone tells the group and nothing of the class within it. From the picture alone the best possible
accuracy is 62.5% (two groups of correlation and the pair buzz / trill are coin flips), and from the sound alone too.

Where a quantity is not fixed by the class it is drawn anew for each clip: colours, sizes, places, speeds, one of six
pitches, and the times at which the tone begins and ends and the turns change. Everything repeats after 0.64 s.
"""

from __future__ import annotations

import csv
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from multimodal.clips.writing import Encoding, write_clip
from multimodal.common.errors import DataError

CLASSES = ("buzz", "cross", "flash-apart", "flash-together", "glide-apart", "glide-together", "ring", "trill")
CORRELATION_CLASSES = ("flash-apart", "flash-together", "glide-apart", "glide-together")
PICTURE_CLASSES = ("cross", "ring")
SOUND_CLASSES = ("buzz", "trill")

ENCODING = Encoding(video_options=(("preset", "veryfast"), ("crf", "12")), audio_bit_rate=96_000)
# Seconds after which a clip repeats: one glide, one turn of light and one of darkness. The tiny model's clip is as
# long.
PERIOD = 0.64
PITCHES = tuple(110.0 * 2 ** (step / 6) for step in range(6))  # Hz
TRILL_NOTE = 0.08  # s


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """What to generate.

    Attributes:
        clips_per_class: clips of each of the eight classes, in `train/` and `val/` together.
        held_out: share of them that goes to `val/`.
        seconds: length of a clip.
        size: height and width in pixels (even).
        frame_rate: frames per second.
        sample_rate: sound samples per second.
        seed: clips with the same seed, class, split and number are the same, whatever the total.
    """

    clips_per_class: int = 500
    held_out: float = 0.05
    seconds: float = 0.64
    size: int = 64
    frame_rate: float = 12.5
    sample_rate: int = 8_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.clips_per_class < 2:
            raise ValueError(f"clips_per_class is {self.clips_per_class}; each split needs one at least")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}; it must be in (0, 1)")
        if self.size < 16 or self.size % 2:
            raise ValueError(f"size is {self.size}; it must be even (4:2:0 video) and at least 16 to show the shapes")
        if self.seconds * self.frame_rate < 1:
            raise ValueError(f"{self.seconds} s at {self.frame_rate} frames/s is less than one frame")

    @property
    def num_held_out(self) -> int:
        """Held-out clips of each class."""
        return min(self.clips_per_class - 1, max(1, round(self.held_out * self.clips_per_class)))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """All that was drawn for a clip: pixels and samples follow from it.

    Attributes:
        name: class.
        shape: "disc", "ring" or "cross".
        colour, top, bottom: RGB in [0, 1] of the sprite and of the background's upper and lower edge.
        radius: of the sprite, in frame heights.
        x, y: centre at time 0, in frame sizes; vx: drift per second.
        climb: +1 the sprite rises in each period, -1 it falls, 0 it does not.
        lit: whether the sprite is lit in the first (0) or the second (1) turn; None: always.
        pitch: Hz.
        glide: +1 the pitch rises by an octave in each period, -1 it falls, 0 it stays.
        sounding: whether the tone sounds in the first (0) or the second (1) turn; None: always.
        change: when the second turn begins, as a share of the period.
        begin, end: when the tone begins and ends, as shares of the period.
        timbre: "sine", "buzz" or "trill".
        loudness: amplitude.
    """

    name: str
    shape: str
    colour: tuple[float, float, float]
    top: tuple[float, float, float]
    bottom: tuple[float, float, float]
    radius: float
    x: float
    y: float
    vx: float
    climb: int
    lit: int | None
    pitch: float
    glide: int
    sounding: int | None
    change: float
    begin: float
    end: float
    timbre: str
    loudness: float


def draw_scene(name: str, chance: np.random.Generator) -> Scene:
    """Draw the scene of a clip of class `name`."""
    if name not in CLASSES:
        raise ValueError(f"no class {name!r}; the generator knows {', '.join(CLASSES)}")
    side = int(chance.integers(2))
    together = name.endswith("-together")
    climb, glide, vx = 0, 0, float(chance.uniform(-0.4, 0.4))
    lit = sounding = None
    y = float(chance.uniform(0.3, 0.7))
    if name.startswith("glide"):
        climb = 2 * side - 1
        glide, vx, y = (climb if together else -climb), 0.0, 0.5
    elif name.startswith("flash"):
        lit, vx = side, 0.0
        sounding = side if together else 1 - side
    x = float(chance.uniform(0.3, 0.7)) if vx == 0.0 else 0.5 - vx * PERIOD / 2
    bright = chance.dirichlet(np.ones(3))
    dark_top, dark_bottom = chance.uniform(0.0, 0.35, (2, 3))
    return Scene(
        name=name,
        shape=name if name in PICTURE_CLASSES else "disc",
        colour=_rgb(np.clip(0.45 + bright, 0, 1)),
        top=_rgb(dark_top),
        bottom=_rgb(dark_bottom),
        radius=float(chance.uniform(0.14, 0.22)),
        x=x,
        y=y,
        vx=vx,
        climb=climb,
        lit=lit,
        pitch=PITCHES[int(chance.integers(len(PITCHES)))],
        glide=glide,
        sounding=sounding,
        change=float(chance.uniform(0.35, 0.65)),
        begin=float(chance.uniform(0.0, 0.3)),
        end=float(chance.uniform(0.7, 1.0)),
        timbre=name if name in SOUND_CLASSES else "sine",
        loudness=float(chance.uniform(0.4, 0.8)),
    )


def _rgb(values: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def render_frames(scene: Scene, times: np.ndarray, size: int) -> np.ndarray:
    """uint8 `[T, size, size, 3]` at `times` (seconds); edges are smoothed over one pixel."""
    centres = (np.arange(size) + 0.5) / size
    ys, xs = np.meshgrid(centres, centres, indexing="ij")
    background = np.asarray(scene.top) + (np.asarray(scene.bottom) - np.asarray(scene.top)) * ys[..., None]
    frames = np.empty((len(times), size, size, 3), np.uint8)
    for number, time in enumerate(times):
        # From a quarter to three quarters of the height, or back, in each period.
        progress = _share_of_period(time) - 0.5
        x = 0.5 + (scene.x - 0.5 + scene.vx * time + 0.5) % 1.0 - 0.5
        cover = _coverage(scene, xs - x, ys - (scene.y - 0.5 * scene.climb * progress), size)
        if scene.lit is not None and int(_share_of_period(time) >= scene.change) != scene.lit:
            cover = 0.25 * cover
        pixels = background + cover[..., None] * (np.asarray(scene.colour) - background)
        frames[number] = np.rint(255 * pixels)
    return frames


def _share_of_period(time: float | np.ndarray) -> np.ndarray:
    """How much of its period has passed at `time`, in [0, 1)."""
    return (np.asarray(time) / PERIOD + 1e-9) % 1.0


def _coverage(scene: Scene, dx: np.ndarray, dy: np.ndarray, size: int) -> np.ndarray:
    """Share of each pixel that the sprite covers, in [0, 1]; `dx`, `dy` are distances from its centre."""
    distance = np.hypot(dx, dy)
    if scene.shape == "disc":
        outside = distance - scene.radius
    elif scene.shape == "ring":
        outside = np.abs(distance - 0.75 * scene.radius) - 0.25 * scene.radius
    else:
        bar, reach = 0.3 * scene.radius, 1.1 * scene.radius
        across, along = np.minimum(np.abs(dx), np.abs(dy)), np.maximum(np.abs(dx), np.abs(dy))
        outside = np.maximum(across - bar, along - reach)
    return np.clip(0.5 - outside * size, 0.0, 1.0)


def render_sound(scene: Scene, num_samples: int, sample_rate: int) -> np.ndarray:
    """float32 `[num_samples]` in [-1, 1]."""
    time = np.arange(num_samples) / sample_rate
    passed = _share_of_period(time)
    octaves = scene.glide * (passed - 0.5)
    if scene.timbre == "trill":
        octaves = octaves + np.where(np.floor(time / TRILL_NOTE) % 2 == 0, 0.0, 7 / 12)
    phase = 2 * np.pi * np.cumsum(scene.pitch * 2.0**octaves) / sample_rate
    wave = np.sin(phase)
    if scene.timbre == "buzz":
        wave = np.sum([np.sin(k * phase) / k for k in range(1, 5)], axis=0) / 1.6
    sounds = (passed >= scene.begin) & (passed < scene.end)
    if scene.sounding is not None:
        sounds &= (passed >= scene.change) == bool(scene.sounding)
    ramp = max(1, round(0.01 * sample_rate))  # 10 ms, so that the tone begins and ends without a click
    padded = np.pad(sounds.astype(float), ramp, mode="edge")
    envelope = np.convolve(padded, np.ones(ramp) / ramp, mode="same")[ramp:-ramp]
    return (scene.loudness * envelope * wave).astype(np.float32)


def render(scene: Scene, config: SyntheticConfig) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 `[T, size, size, 3]` and sound float32 `[S]` of a scene."""
    num_frames = round(config.seconds * config.frame_rate)
    frames = render_frames(scene, np.arange(num_frames) / config.frame_rate, config.size)
    return frames, render_sound(scene, round(num_frames / config.frame_rate * config.sample_rate), config.sample_rate)


def scene_of(config: SyntheticConfig, split: str, name: str, number: int) -> Scene:
    """The scene of a numbered clip of a split: the same whatever the number of clips."""
    seed = [config.seed, ("train", "val").index(split), CLASSES.index(name), number]
    return draw_scene(name, np.random.default_rng(seed))


def _clips(config: SyntheticConfig) -> Iterator[tuple[str, str, int]]:
    for split, count in (("train", config.clips_per_class - config.num_held_out), ("val", config.num_held_out)):
        for name in CLASSES:
            for number in range(count):
                yield split, name, number


def _write(config: SyntheticConfig, root: str, clip: tuple[str, str, int]) -> None:
    split, name, number = clip
    frames, sound = render(scene_of(config, split, name, number), config)
    path = Path(root) / split / name / f"{number:06d}.mp4"
    write_clip(path, frames, sound, frame_rate=config.frame_rate, sample_rate=config.sample_rate, encoding=ENCODING)


def generate(root: str | Path, config: SyntheticConfig, num_processes: int = 1) -> Path:
    """Write the clips to `root/{train,val}/<class>/<number>.mp4`, and `scenes.csv` with what was drawn for each.

    Args:
        root: a folder that does not exist yet or is empty.
        config: what to generate.
        num_processes: processes that draw and encode.

    Returns:
        `root`.

    Raises:
        DataError: `root` has something in it.
    """
    root = Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root} is not an empty folder; generate the clips somewhere else or remove it first")
    for split in ("train", "val"):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
    clips = list(_clips(config))
    write = partial(_write, config, str(root))
    if num_processes == 1:
        for clip in clips:
            write(clip)
    else:
        with ProcessPoolExecutor(num_processes, mp_context=multiprocessing.get_context("forkserver")) as pool:
            for _ in pool.map(write, clips, chunksize=16):
                pass
    with (root / "scenes.csv").open("w", newline="", encoding="utf-8") as stream:
        fields = list(Scene.__dataclass_fields__)
        writer = csv.writer(stream)
        writer.writerow(["split", "number", *fields])
        for split, name, number in clips:
            scene = scene_of(config, split, name, number)
            writer.writerow([split, number, *(getattr(scene, field) for field in fields)])
    return root
