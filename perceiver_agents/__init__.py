"""What is installed: the version of the distribution `perceiver-agents`, and the extras that its packages need.

The packages import this one; it imports nothing but Python's own library. It is also the name under which they are
found where `envs` or `agents` is another project's: see `perceiver_agents.imports`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

from perceiver_agents.imports import install

__version__ = "0.1.0"
install()


def require(extra: str, *modules: str) -> None:
    """Checks that the top-level `modules`, which the extra brings, can be imported; imports none of them.

    Raises:
        ImportError: names the missing modules and the command that installs the extra.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise ImportError(f"{', '.join(missing)} not installed. Install with: pip install 'perceiver-agents[{extra}]'")


def answer_version(program: str, arguments: Sequence[str] | None) -> None:
    """Prints the version and exits if `--version` is among the arguments (None: those of this process)."""
    if "--version" in (sys.argv[1:] if arguments is None else arguments):
        print(f"{program} {__version__}")
        sys.exit(0)
