"""A window that shows pictures, through pygame, which is installed by whoever wants one: no extra brings it."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np


class Window:
    """One window; it takes the size of its first picture.

    Raises:
        RuntimeError: pygame is not installed.
    """

    def __init__(self, title: str) -> None:
        try:
            self._pygame = importlib.import_module("pygame")
        except ImportError:
            raise RuntimeError("showing a window needs pygame: pip install pygame; or render to rgb_array") from None
        self._title = title
        self._screen: Any = None

    def show(self, picture: np.ndarray) -> None:
        """Shows a picture, uint8 [height, width, 3]."""
        if self._screen is None:
            self._pygame.init()
            self._pygame.display.set_caption(self._title)
            self._screen = self._pygame.display.set_mode((picture.shape[1], picture.shape[0]))
        self._pygame.event.pump()
        self._screen.blit(self._pygame.surfarray.make_surface(picture.transpose(1, 0, 2)), (0, 0))
        self._pygame.display.flip()

    def close(self) -> None:
        if self._screen is not None:
            self._pygame.quit()
            self._screen = None
