"""From decoded sound to one channel at one sample rate, on the window's own grid of samples."""

from __future__ import annotations

import math
from fractions import Fraction

import av
import numpy as np

# As many channels as FFmpeg's sample converter takes.
MAX_CHANNELS = 64
# A frame has room for this many planes. PyAV reads planes until one is missing, hence beyond the frame where all are
# used: such sound is read packed, in a single plane.
PLANES = 8


class Sound:
    """Collects the decoded sound around a window and lays it out on one sample grid."""

    def __init__(self, sample_rate: int, tick: float, weights: dict[str, np.ndarray]) -> None:
        """`tick` is the container's unit of time in seconds; `weights` are those of known layouts, by their name."""
        self.sample_rate = sample_rate
        # Stamps are rounded to the container's tick; a larger jump is a gap or an overlap in the track.
        self.jump = max(2e-3, 1.01 * tick)
        self._runs: list[_Run] = []
        self._weights = dict(weights)
        self._converter = _packed_floats()

    @property
    def first_stamp(self) -> float | None:
        return self._runs[0].start if self._runs else None

    @property
    def end(self) -> float:
        return self._runs[-1].end if self._runs else -math.inf

    def add(self, frame: av.AudioFrame, stamp: float | None) -> None:
        if frame.sample_rate != self.sample_rate:
            raise ValueError(f"the sample rate changes from {self.sample_rate} to {frame.sample_rate} inside the file")
        samples = self._mono(frame)
        if stamp is None:
            stamp = self._runs[-1].end if self._runs else 0.0
        if not self._runs or abs(stamp - self._runs[-1].end) > self.jump:
            self._runs.append(_Run(self.sample_rate, stamp))
        self._runs[-1].add(samples, stamp)

    def _mono(self, frame: av.AudioFrame) -> np.ndarray:
        """float32 `[S]`, the weighted mean of the channels."""
        layout = frame.layout
        channels = layout.nb_channels
        if not 0 < channels <= MAX_CHANNELS:
            raise ValueError(f"{channels} sound channels; from 1 to {MAX_CHANNELS} can be mixed down")
        weights = self._weights.get(layout.name)
        if weights is None:
            weights = self._weights[layout.name] = _mono_weights([channel.name for channel in layout.channels])
        if frame.format.name == "fltp" and channels < PLANES:
            return weights @ frame.to_ndarray()
        frame.pts = None  # the converter must neither fill gaps nor drop overlaps: the stamps are dealt with here
        try:
            converted = self._converter.resample(frame)
        except ValueError:  # the channel layout changed: the converter is made for one
            self._converter = _packed_floats()
            converted = self._converter.resample(frame)
        parts = [part.to_ndarray().reshape(-1, channels) @ weights for part in converted]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def finish(self, start: float, count: int) -> tuple[np.ndarray, np.ndarray]:
        """float32 `[count]` from the sample nearest to `start` on, and bool `[count]`: which of it the track has."""
        sound = np.zeros(count, np.float32)
        present = np.zeros(count, bool)
        for run in self._runs:
            samples = run.samples()
            first = round((run.aligned_start() - start) * self.sample_rate)
            lo, hi = max(0, first), min(count, first + len(samples))
            if lo < hi:
                sound[lo:hi] = samples[lo - first : hi - first]
                present[lo:hi] = True
        if not np.isfinite(sound).all():  # damaged floating-point tracks
            sound = np.nan_to_num(sound, nan=0.0, posinf=1.0, neginf=-1.0)
        return sound, present


def _packed_floats() -> av.AudioResampler:
    return av.AudioResampler(format="flt")


def _mono_weights(names: list[str]) -> np.ndarray:
    """float32 `[channels]`, sum 1: both fronts alike, centre -3 dB, surrounds -6 dB, no low-frequency effects.

    The proportions of ITU-R BS.775's stereo down-mix, its two channels averaged; stereo becomes the plain mean, and so
    do channels of which FFmpeg knows no place (`names` are its names of the channels).
    """
    if "FL" not in names:
        return np.full(len(names), 1 / len(names), np.float32)
    levels = {"FC": math.sqrt(0.5), "LFE": 0.0, "LFE2": 0.0, "FL": 0.5, "FR": 0.5}
    weights = np.array([levels.get(name, math.sqrt(0.5) / 2) for name in names], np.float32)
    return weights / weights.sum()


def settle_layout(audio: av.AudioStream) -> dict[str, np.ndarray]:
    """Make the channel layout of a stream safe to read; weights of its channels by the layout's name.

    PyAV copies a layout without the list that one with an order of its own points to, and frees that list with every
    copy: a second free ends the process. So the decoder gets a layout that has only a number of channels, before
    anything else looks at the first.
    """
    context = audio.codec_context
    layout = context.layout
    channels = layout.nb_channels
    if channels <= 0:
        return {}
    context.layout = f"{channels}C"
    weights = _mono_weights([channel.name for channel in layout.channels])
    # Orders of their own are described as "2 channels (FR+FL)".
    if " channels (" in layout.name:
        return {f"{channels} channels": weights}
    context.layout = layout
    return {layout.name: weights}


class _Run:
    """Sound without a gap, placed in time by the median over its stamps, since each is rounded to the file's tick."""

    def __init__(self, sample_rate: int, start: float) -> None:
        self.sample_rate = sample_rate
        self.start = start
        self._parts: list[np.ndarray] = []
        self._length = 0
        self._offsets: list[float] = []

    @property
    def end(self) -> float:
        return self.start + self._length / self.sample_rate

    def add(self, samples: np.ndarray, stamp: float) -> None:
        self._offsets.append(stamp - self.end)
        self._parts.append(samples)
        self._length += len(samples)

    def aligned_start(self) -> float:
        return self.start + float(np.median(self._offsets))

    def samples(self) -> np.ndarray:
        return np.concatenate(self._parts)


class Resampling:
    """Change of sample rate for windows: the result at the edges is what resampling the whole track would give."""

    # torchaudio's filter has one phase per output sample of the reduced ratio. The bound keeps odd rates (44,101 Hz)
    # from building gigabytes of filter, for a relative error in rate of less than 3e-7.
    MAX_PHASES = 2000
    # Taps each side at the lower of the two rates, above torchaudio's default width of 6 zero crossings.
    TAPS = 16

    def __init__(self, source_rate: int, target_rate: int) -> None:
        self.source_rate = source_rate
        ratio = Fraction(target_rate, source_rate).limit_denominator(self.MAX_PHASES)
        self.up, self.down = ratio.numerator, ratio.denominator
        needed = math.ceil(self.TAPS * max(1.0, source_rate / target_rate))
        # Whole periods of the ratio, so that the margin ends on a sample of both grids.
        self.margin_periods = math.ceil(needed / self.down)
        self.margin_seconds = self.margin_periods * self.down / source_rate

    def window(self, sound: Sound, start: float, count: int) -> tuple[np.ndarray, float]:
        """float32 `[count]` at the target rate from `start` on, and the share of it that the track has."""
        margin = self.margin_periods * self.down
        inside = math.ceil(count * self.down / self.up)
        source, present = sound.finish(start - margin / self.source_rate, inside + 2 * margin)
        covered = float(present[margin : margin + inside].mean())
        if self.up == self.down:
            return source[margin : margin + count], covered
        # Here, not above: headers are read without them, and they take seconds to import.
        import torch
        import torchaudio.functional

        resampled = torchaudio.functional.resample(torch.from_numpy(source), self.down, self.up).numpy()
        skip = self.margin_periods * self.up
        return np.ascontiguousarray(resampled[skip : skip + count]), covered
