"""The video-audio-label autoencoder: model, losses, training, evaluation and its commands."""
