"""An encoder for data of one's own: up to 500 sensor readings in any order, forecasts for the next 24 hours."""

import torch

from perceiver_core import AttentionConfig, DecoderConfig, EncoderConfig, PerceiverIO, PerceiverIOConfig
from perceiver_core.inputs import EntityInput
from perceiver_core.outputs import ProjectionOutput
from perceiver_core.position import FourierPosition
from perceiver_core.queries import PositionQueries

config = PerceiverIOConfig(
    inputs=EntityInput.Config(features=12, projection_channels=64),
    encoder=EncoderConfig(num_latents=32, latent_channels=128, num_self_attends=4),
    queries=PositionQueries.Config(position=FourierPosition.Config(shape=(24,), num_bands=8)),
    decoder=DecoderConfig(attention=AttentionConfig(num_heads=1, query_residual=False)),
    outputs=ProjectionOutput.Config(channels=3),
)
model = PerceiverIO(config)
readings, valid = torch.randn(4, 500, 12), torch.rand(4, 500) < 0.3
latents = model.encode(readings, valid)  # [4, 32, 128], however many readings there are
forecast = model.decode(latents)  # [4, 24, 3]
evening = model.decode(latents, torch.arange(18, 24))  # [4, 6, 3]: only what is asked for is computed
