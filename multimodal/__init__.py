"""Video-audio-label autoencoding on the Perceiver IO core."""
