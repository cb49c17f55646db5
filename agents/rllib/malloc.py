"""Tunes malloc: glibc keeps freed memory in the process, so that an update finds the memory of the last one."""

import ctypes
import platform

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> None:
    """Tells glibc not to give the memory of large tensors back to the system after every update.

    Each update allocates the same activations anew. By default glibc maps them fresh each time, and a quarter of an
    update of some thousand steps goes into page faults. Does nothing with another C library.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_MMAP_THRESHOLD, 32 << 20)
    mallopt(_TRIM_THRESHOLD, 1 << 30)
    mallopt(_TOP_PAD, 128 << 20)
