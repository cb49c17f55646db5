"""How every training command ends: a sentence for what a user can mend, and how to go on after an interruption."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence

from rich.console import Console

from multimodal.common.errors import DataError, Stopped, TrainingFailed


def exit_with_sentence(program: str, arguments: Sequence[str], work: Callable[[], None]) -> None:
    """Call `work`; errors that a user can mend end the program with one sentence.

    Exit codes: 1 for an error, 130 after Ctrl-C, 143 after SIGTERM. After these two it says how to go on.
    """
    try:
        work()
    except (DataError, TrainingFailed, ValueError) as error:
        sys.exit(f"error: {error}")
    except Stopped as stopped:
        command = shlex.join([program, *arguments])
        Console(stderr=True).print(
            f"stopped; the run is saved at step {stopped.step}. Go on with:\n  {command}",
            highlight=False,
            soft_wrap=True,
        )
        sys.exit(128 + stopped.signal_number)
    except KeyboardInterrupt:
        sys.exit(130)
