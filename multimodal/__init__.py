"""Multimodal models on the Perceiver IO core: video-audio-label autoencoding, language, and optical flow."""

from perceiver_agents import require

# Ray is asked for where it is started (`multimodal.common.ray_cluster`): models and clips work without it.
require(
    "multimodal",
    "torchvision",
    "torchaudio",
    "av",
    "sklearn",
    "scipy",
    "cv2",
    "tokenizers",
    "datasets",
    "pyarrow",
    "rich",
    "tensorboard",
    "matplotlib",
    "tyro",
)
