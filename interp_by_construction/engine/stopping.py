"""How a command ends on SIGTERM and SIGINT: at once with a message, cleanly if it can, and in any
case within seconds, with the exit code that shells expect (128 plus the signal's number).

The signal becomes an exception. It is no `KeyboardInterrupt`, which Lightning would answer by
ending the process with exit code 1. What waits too long is cut off: servers and helpers end by
themselves when this process is gone.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
LAST_SECONDS = 5.0
"""After which a process that cannot end cleanly is cut off."""
MESSAGE = "\nstopped by {name}; the same command goes on where it stopped\n"


class Stopped(BaseException):
    """A signal asked the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Inside the block the first SIGINT or SIGTERM raises `Stopped`; a second ends the process at
    once. Does nothing outside the main thread, which alone gets signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    begun = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal begun
        if begun:
            os._exit(128 + number)
        begun = True
        # Now, since what it interrupts may take its time. `sys.stderr` may be in use.
        os.write(2, MESSAGE.format(name=signal.Signals(number).name).encode())
        threading.Thread(target=_cut_off, args=(number,), daemon=True).start()
        raise Stopped(number)

    before = {each: signal.signal(each, stop) for each in SIGNALS}
    try:
        yield
    finally:
        if not begun:
            for each, handler in before.items():
                signal.signal(each, handler)


def _cut_off(number: int) -> None:
    time.sleep(LAST_SECONDS)
    os._exit(128 + number)
