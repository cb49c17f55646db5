"""Clients of the tests wait as long for each other as a busy machine needs, which may compile meanwhile."""

from collections.abc import Iterator

import pytest

from envs.protocol import game, handler
from tests.patience import PATIENCE


@pytest.fixture(autouse=True, scope="session")
def patient_clients() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(game, "PATIENCE", PATIENCE)
        patched.setattr(handler, "JOIN_SECONDS", PATIENCE)
        yield
