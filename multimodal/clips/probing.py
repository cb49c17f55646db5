"""Headers of many files, read in a process of its own: the file that ends it is named, and the others are read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, Pipe

from multimodal.clips.media import MediaInfo, UnreadableMedia, probe
from multimodal.common.processes import LONGEST_SECONDS, TRIES, describe_exit
from multimodal.common.records import Problem

# A child of multiprocessing would import the program that runs, with all it needs.
CHILD = "import sys; from multimodal.clips.probing import serve; serve(int(sys.argv[1]))"


def probe_files(paths: Iterable[str]) -> Iterator[MediaInfo | Problem]:
    """Probe each file, in order; why, for those that cannot be used."""
    prober = _Prober()
    try:
        for path in paths:
            yield prober.probe(path)
    finally:
        prober.close()


class _Prober:
    """A process that probes; another one if it dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def probe(self, path: str) -> MediaInfo | Problem:
        how = ""
        for _ in range(TRIES):
            if self._connection is None:
                self._connection = self._start()
            try:
                self._connection.send(path)
                if self._connection.poll(LONGEST_SECONDS):
                    answer: MediaInfo | Problem = self._connection.recv()
                    return answer
                how = f"took longer than {LONGEST_SECONDS:g} s"
                self.close()
            except (EOFError, OSError):
                how = f"ended its process ({describe_exit(self.close())})"
        return Problem(path=path, reason=f"{how}, {TRIES} times")

    def _start(self) -> Connection:
        ours, theirs = Pipe()
        command = [sys.executable, "-c", CHILD, str(theirs.fileno())]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in sys.path)}
        # A session of its own: Ctrl-C is for this process, whose end ends the child.
        self._process = subprocess.Popen(
            command, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
        )
        theirs.close()
        return ours

    def close(self) -> int | None:
        """End the process; its exit code."""
        if self._connection is None or self._process is None:
            return None
        self._connection.close()
        self._connection = None
        try:
            return self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def serve(descriptor: int) -> None:
    """What the process does: paths in, answers out, until the other end is closed."""
    with Connection(descriptor) as connection:
        while True:
            try:
                path = connection.recv()
            except EOFError:
                return
            try:
                answer: MediaInfo | Problem = probe(path)
            except UnreadableMedia as error:
                answer = Problem(path=error.path, reason=error.reason)
            connection.send(answer)
