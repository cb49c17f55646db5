"""Speed of the clip loader, of a training step and of a whole reconstruction, each as a ratio of two things in one run.

    python -m benchmarks.multimodal loader [--data DIR]
    python -m benchmarks.multimodal step
    python -m benchmarks.multimodal reconstruction
    python -m benchmarks.multimodal sync --run RUN [--data FILE]

- `loader`: clips per second of the training loader against bare PyAV decoding of the same files to arrays, both in one
  process, in turn, for several rounds.
- `step`: a training step of `small` (forward, backward, the paper's query subsets) against Hugging Face's
  `PerceiverForMultimodalAutoencoding` at the same sizes, batch, queries and loss.
- `reconstruction`: a whole clip at `paper` size, encoded once and decoded in chunks, against Hugging Face's documented
  loop, which runs the whole model for each of 128 chunks; `--chunks` of them are timed and scaled to all.
- `sync`: no speed: how far picture and sound of a file shift in `perceiver-reconstruct --side-by-side`. Both files are
  decoded by PyAV alone. The shift of the picture is where small frames of the original and of the output's left half,
  which passes through the same windows and frames as the reconstruction, correlate best; that of the sound where the
  original's and the reconstructed waveforms do. The run must have learnt the file's sound, or the two are not alike.
  Without FILE: held-out generated clips one after the other; of the windows that the file is cut into, some are a clip
  as in training, and only the stretches that these fill alone are compared in sound.
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import av
import numpy as np
import torch
import torch.nn.functional as F
import tyro

from multimodal.autoencoder.commands import ReconstructConfig
from multimodal.autoencoder.losses import autoencoder_loss, draw
from multimodal.autoencoder.modalities import Audio, Label, Video
from multimodal.autoencoder.model import AutoencoderConfig, build, preset, reconstruct
from multimodal.autoencoder.rendering import overlap_frames
from multimodal.autoencoder.rendering import run as reconstruct_file
from multimodal.autoencoder.runs import load_run
from multimodal.autoencoder.settings import paper_loss
from multimodal.clips.clip import ClipFormat
from multimodal.clips.datasets import find_files
from multimodal.clips.loader import ClipBatch, training_loader
from multimodal.clips.settings import LoaderConfig
from multimodal.clips.synthetic import ENCODING, SyntheticConfig, generate, render, scene_of
from multimodal.clips.writing import write_clip
from multimodal.common.sampling import EpochBatches
from perceiver_core.folding import fold_for_inference

NUM_CLASSES = 700
HUGGING_FACE_CHUNKS = 128


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What to time.

    Attributes:
        part: loader, step, reconstruction or sync.
        data: clips for `loader`, None generates some; a file for `sync`, None joins generated ones.
        size: height and width of the clips that `loader` generates; 64 is that of the default training.
        run: of `sync`, a trained run.
        rounds: repetitions, each of both contenders in turn; medians and ranges are printed.
        threads: torch threads.
        batch_size: of `step`.
        chunks: of Hugging Face's loop that are timed in `reconstruction`.
    """

    part: Annotated[Literal["loader", "step", "reconstruction", "sync"], tyro.conf.Positional]
    data: str | None = None
    size: int = 64
    run: str | None = None
    rounds: int = 5
    threads: int = 2
    batch_size: int = 2
    chunks: int = 2


def alternate(rounds: int, ours: Callable[[], None], theirs: Callable[[], None]) -> tuple[list[float], list[float]]:
    """Seconds of each contender in each round, after one round that is not counted."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for contender, seconds in zip((ours, theirs), times, strict=True):
            began = time.perf_counter()
            contender()
            if number:
                seconds.append(time.perf_counter() - began)
    return times


def show(name: str, seconds: list[float], unit: float = 1.0, of: str = "s") -> float:
    values = sorted(unit / s if of != "s" else s for s in seconds)
    print(f"{name:32s} median {statistics.median(values):8.3f} {of}  (range {values[0]:.3f} to {values[-1]:.3f})")
    return statistics.median(values)


def loader(config: BenchmarkConfig) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = config.data or str(
            generate(Path(folder) / "clips", SyntheticConfig(clips_per_class=12, size=config.size))
        )
        files = find_files(data, "train").files
        sizes = preset("tiny")
        batch = min(8, len(files))
        batches = EpochBatches(len(files), batch, seed=0)
        loaded = iter(training_loader(files, sizes.clip, LoaderConfig(num_workers=0), batches))
        count = batches.steps_per_epoch * batch

        def ours() -> None:
            for _ in range(batches.steps_per_epoch):
                next(loaded)

        def bare() -> None:
            for file in files[:count]:
                with av.open(file.path) as container:
                    for stream in container.streams:
                        if isinstance(stream, av.VideoStream | av.AudioStream):
                            stream.codec_context.thread_count = 1
                    for packet in container.demux():
                        for frame in packet.decode():
                            if isinstance(frame, av.VideoFrame):
                                frame.reformat(format="rgb24", threads=1).to_ndarray()
                            elif isinstance(frame, av.AudioFrame):
                                frame.to_ndarray()

        times = alternate(config.rounds, ours, bare)
    rate = show("loader", times[0], count, "clips/s")
    print(f"loader / bare decoding: {rate / show('bare PyAV decoding', times[1], count, 'clips/s'):.2f}")


def random_clips(sizes: AutoencoderConfig, count: int) -> ClipBatch:
    clip = sizes.clip
    yes = torch.ones(count, dtype=torch.bool)
    return ClipBatch(
        video=torch.randint(0, 256, (count, clip.num_frames, 3, clip.height, clip.width), dtype=torch.uint8),
        audio=torch.rand(count, clip.num_samples) - 0.5,
        label=torch.randint(0, NUM_CLASSES, (count,)),
        has_video=yes,
        has_audio=yes,
        has_label=yes,
        index=torch.arange(count),
        start=torch.zeros(count, dtype=torch.float64),
    )


def hugging_face(sizes: AutoencoderConfig) -> torch.nn.Module:
    """Their model at our sizes. Its input widths are written for 224 x 224 pixels with patches of 4."""
    from transformers import PerceiverConfig, PerceiverForMultimodalAutoencoding

    clip = sizes.clip
    video, audio, label = (sizes.modality(name) for name in ("video", "audio", "label"))
    assert isinstance(video, Video) and isinstance(audio, Audio) and isinstance(label, Label)
    return PerceiverForMultimodalAutoencoding(
        PerceiverConfig(
            num_latents=sizes.num_latents,
            d_latents=sizes.latent_channels,
            d_model=704,
            num_blocks=1,
            num_self_attends_per_block=sizes.num_self_attends,
            num_self_attention_heads=sizes.num_heads,
            num_cross_attention_heads=1,
            num_labels=NUM_CLASSES,
            num_frames=clip.num_frames,
            audio_samples_per_frame=clip.samples_per_frame,
            samples_per_patch=audio.samples_per_patch,
            image_size=clip.height // video.patch,
            output_shape=[1, clip.num_frames, clip.height, clip.width],
            output_num_channels=sizes.output_channels,
            _label_trainable_num_channels=label.query_channels,
            attention_probs_dropout_prob=0.0,
        )
    )


def step(config: BenchmarkConfig) -> None:
    from dataclasses import replace

    # Their Fourier bands are fixed at 32 and 192: ours take the same here, so that all widths agree.
    modalities = (Video(patch=4, bands=32), Audio(samples_per_patch=16, bands=192), Label(query_channels=256))
    sizes = replace(preset("small"), modalities=modalities)
    batch, loss = random_clips(sizes, config.batch_size), paper_loss()
    torch.manual_seed(0)
    model, other = build(sizes, NUM_CLASSES).train(), hugging_face(sizes).train()
    choice = draw(sizes, loss, seed=0, step=0, global_batch=config.batch_size, part=slice(0, config.batch_size))
    print(f"parameters: ours {count(model):,}, Hugging Face {count(other):,}")

    def ours() -> None:
        autoencoder_loss(model, model, sizes, loss, batch, choice)["total"].backward()
        model.zero_grad()

    images = batch.video.float() / 255
    labels = F.one_hot(batch.label, NUM_CLASSES).float()
    pixels = images.permute(0, 1, 3, 4, 2).flatten(1, 3)[:, choice.asked["video"]]
    patches = batch.audio.unflatten(1, (-1, 16))[:, choice.asked["audio"]].flatten(1)

    def theirs() -> None:
        out = other(
            inputs={"image": images, "audio": batch.audio[..., None], "label": labels},
            subsampled_output_points={"image": choice.asked["video"], "audio": choice.asked["audio"], "label": None},
        ).logits
        video = (out["image"] - pixels).abs().mean()
        audio = (out["audio"].flatten(1) - patches).abs().mean()
        label = F.cross_entropy(out["label"], batch.label)
        weights = [loss[name].weight for name in ("video", "audio", "label")]
        (weights[0] * video + weights[1] * audio + weights[2] * label).backward()
        other.zero_grad()

    times = alternate(config.rounds, ours, theirs)
    mine = show("training step", times[0])
    print(f"Hugging Face / ours: {show('Hugging Face', times[1]) / mine:.2f}")


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def reconstruction(config: BenchmarkConfig) -> None:
    sizes = preset("paper")
    batch = random_clips(sizes, 1)
    torch.manual_seed(0)
    model, other = build(sizes, NUM_CLASSES).eval(), hugging_face(sizes).eval()
    inputs = {
        "image": batch.video.float() / 255,
        "audio": batch.audio[..., None],
        "label": torch.zeros(1, NUM_CLASSES),
    }
    image_chunk = sizes.modality("video").num_queries(sizes.clip) // HUGGING_FACE_CHUNKS
    audio_chunk = sizes.modality("audio").num_queries(sizes.clip) // HUGGING_FACE_CHUNKS

    decoder = fold_for_inference(model)

    def ours() -> None:
        reconstruct(model, sizes, batch, decoder=decoder)

    @torch.no_grad()
    def theirs() -> None:
        for number in range(config.chunks):
            points = {
                "image": torch.arange(image_chunk * number, image_chunk * (number + 1)),
                "audio": torch.arange(audio_chunk * number, audio_chunk * (number + 1)),
                "label": None,
            }
            other(inputs=inputs, subsampled_output_points=points)

    times = alternate(config.rounds, ours, theirs)
    mine = show("whole clip", times[0])
    scaled = [seconds * HUGGING_FACE_CHUNKS / config.chunks for seconds in times[1]]
    print(f"Hugging Face / ours: {show(f'Hugging Face, {config.chunks} of 128 scaled', scaled) / mine:.1f}")


THUMBNAIL = 16
SYNC_RATE = 8_000
REACH = 0.2  # s


def decode_plainly(path: str, left: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times of the frames `[T]` in s, small frames of the central (or left) square `[T, pixels]`, and the sound from
    time 0 on, `[S]` at `SYNC_RATE`, with nothing but PyAV's decoder and converters.
    """
    times, pictures, sounds = [], [], []
    mono = av.AudioResampler(format="flt", layout="mono", rate=SYNC_RATE)
    with av.open(path) as container:
        for packet in container.demux(container.streams.video[0], container.streams.audio[0]):
            for frame in packet.decode():
                if isinstance(frame, av.VideoFrame):
                    side = min(frame.width, frame.height)
                    top, first = (frame.height - side) // 2, 0 if left else (frame.width - side) // 2
                    pixels = torch.from_numpy(frame.to_ndarray(format="gray")[top : top + side, first : first + side])
                    small = F.adaptive_avg_pool2d(pixels[None].float(), THUMBNAIL)
                    times.append(frame.time)
                    pictures.append(small.flatten().numpy())
                elif isinstance(frame, av.AudioFrame):
                    assert frame.time is not None
                    if not sounds:
                        silence = max(0, round(frame.time * SYNC_RATE))
                        sounds.append(np.zeros(silence, np.float32))
                    sounds += [part.to_ndarray()[0] for part in mono.resample(frame)]
    return np.asarray(times, float), np.asarray(pictures), np.concatenate(sounds)


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Of two signals, their means over time (the first axis) taken off."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))


Stretch = tuple[int, int]


def sound_shift(sound: np.ndarray, new_sound: np.ndarray, stretches: list[Stretch]) -> tuple[float, float]:
    """By how many seconds `new_sound` is later in `stretches` (samples of it), and the correlation at that shift."""
    reach = round(REACH * SYNC_RATE)
    end = min(len(sound), len(new_sound)) - reach
    stretches = [(first, last) for first, last in stretches if first >= reach and last <= end]
    heard = np.concatenate([new_sound[first:last] for first, last in stretches])
    steps = range(-reach, reach + 1)
    scores = [
        correlation(np.concatenate([sound[first - step : last - step] for first, last in stretches]), heard)
        for step in steps
    ]
    best = int(np.argmax(scores))
    return steps[best] / SYNC_RATE, scores[best]


JOINED_CLASSES = ("flash-apart", "flash-together", "ring")
JOINED_CLIPS = 25  # of each class


def join_clips(path: Path, clip: ClipFormat) -> list[Stretch]:
    """Write held-out generated clips, as long as a window, one after the other.

    Returns:
        The stretches, in samples at `SYNC_RATE`, that come from windows which are one clip, and from no other window.
    """
    config = SyntheticConfig(
        seconds=clip.num_frames / clip.frame_rate, frame_rate=clip.frame_rate, sample_rate=clip.sample_rate
    )
    scenes = [scene_of(config, "val", name, number) for number in range(JOINED_CLIPS) for name in JOINED_CLASSES]
    frames, sounds = zip(*(render(scene, config) for scene in scenes), strict=True)
    write_clip(
        path,
        np.concatenate(frames),
        np.concatenate(sounds),
        frame_rate=config.frame_rate,
        sample_rate=config.sample_rate,
        encoding=ENCODING,
    )
    overlap = overlap_frames(clip)
    starts = range(0, len(scenes) * clip.num_frames, math.lcm(clip.num_frames - overlap, clip.num_frames))
    samples_per_frame = SYNC_RATE / clip.frame_rate
    return [
        (round((start + overlap) * samples_per_frame), round((start + clip.num_frames - overlap) * samples_per_frame))
        for start in starts
    ]


def sync(config: BenchmarkConfig) -> None:
    if config.run is None:
        sys.exit("error: sync needs --run RUN")
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "out.mp4")
        data, stretches = config.data, list[Stretch]()
        if data is None:
            data = str(Path(folder) / "joined.mp4")
            stretches = join_clips(Path(data), load_run(config.run).model.clip)
        reconstruct_file(ReconstructConfig(run=config.run, clip=data, out=out, side_by_side=True))
        times, pictures, sound = decode_plainly(data)
        new_times, new_pictures, new_sound = decode_plainly(out, left=True)
    lags = np.arange(-REACH, REACH, 0.005)
    inside = (new_times > times[0] + REACH) & (new_times < times[-1] - REACH)
    scores = []
    for lag in lags:
        shown = np.searchsorted(times, new_times[inside] - lag + 1e-6, side="right") - 1
        scores.append(correlation(pictures[shown], new_pictures[inside]))
    # Between two frames of the original nothing changes: the shift is known to its frame length.
    best = lags[np.asarray(scores) > max(scores) - 1e-9]
    reach = round(REACH * SYNC_RATE)
    if not stretches:
        stretches = [(reach, min(len(sound), len(new_sound)) - reach)]
    shift, score = sound_shift(sound, new_sound, stretches)
    print(f"{len(times)} frames in {times[-1]:.2f} s -> {len(new_times)} frames in {new_times[-1]:.2f} s")
    print(f"picture later by {best[0] * 1e3:.0f} to {best[-1] * 1e3:.0f} ms (correlation {max(scores):.3f})")
    print(f"sound later by {shift * 1e3:.2f} ms (correlation {score:.3f})")


def main() -> None:
    config = tyro.cli(BenchmarkConfig, description=__doc__)
    torch.set_num_threads(config.threads)
    print(f"torch {torch.__version__}, {config.threads} threads, float32, {config.rounds} rounds", file=sys.stderr)
    {"loader": loader, "step": step, "reconstruction": reconstruction, "sync": sync}[config.part](config)


if __name__ == "__main__":
    main()
