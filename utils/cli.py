"""How every entry point ends: a user's mistake is one line on stderr and exit code 2, never a traceback."""

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import NoReturn

from tqdm import tqdm

from utils import parallel
from utils.stop import Stop, end_with_launcher

# what torch says when a process at the other end, or the launcher where they meet, is gone
LOST = ("closed by peer", "reset by peer", "Connection was likely closed", "Broken pipe")


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are the same one line as every other mistake's."""

    def __init__(self, prog: str, description: str | None):
        super().__init__(prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; {self.prog} --help shows how it is used")


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn `ValueError` (bad input) and `OSError` (missing or unwritable files) into `error: ...` and exit code 2; a
    worker process that was killed into exit code 1.

    A process that utils/launch.py started hands the line to it, so that several ranks with the same trouble say it
    once. Such a process ends when its launcher is gone.
    """
    end_with_launcher()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # tidy up as after Ctrl-C
    try:
        yield
    except (ValueError, OSError) as error:
        code = 1 if isinstance(error, ChildProcessError) else 2  # a killed process is nobody's mistake
        report(str(error))
        parallel.leave(code)
        raise SystemExit(code) from None
    except RuntimeError as error:
        if any(words in str(error) for words in LOST):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # nothing is left to save
            signal.sigtimedwait({signal.SIGTERM}, 0 if Stop.terminated else 10)  # another rank says why, and is awaited
            report("the connection to another process was lost")
            parallel.leave(1)
            raise SystemExit(1) from None
        raise
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def report(message: str) -> None:
    """Say `error: message` on stderr, on a line of its own, or leave it to the launcher."""
    message = " ".join(message.split())
    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if file:
        with open(file, "w") as handle:
            json.dump({"message": message, "timestamp": int(time.time())}, handle)
    else:
        print(f"error: {message}", file=sys.stderr, flush=True)
