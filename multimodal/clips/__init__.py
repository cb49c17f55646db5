"""Clips in and out: media files, data sets, the loader, generators, writing."""
