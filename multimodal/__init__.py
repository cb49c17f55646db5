"""Video-audio-label autoencoding on the Perceiver IO core."""

from perceiver_agents import require

# Ray is asked for where it is started (`multimodal.common.ray_cluster`): models and clips work without it.
require("multimodal", "torchvision", "torchaudio", "av", "sklearn", "rich", "tensorboard", "matplotlib", "tyro")
