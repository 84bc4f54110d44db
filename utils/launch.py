"""Start a script on every device: torchrun, with one line instead of a report where a process fails.

    python utils/launch.py --standalone --nproc-per-node 2 train.py configs/demo.py

The arguments are torchrun's. The exit code is that of the process that failed first; 130 after Ctrl-C, 143 after
SIGTERM.
"""

import logging
import signal
import sys

from torch.distributed import DistNetworkError, run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


def main(arguments: list[str]) -> int:
    """Run and return the exit code."""
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    logging.getLogger("torch.distributed.run").setLevel(logging.ERROR)
    try:
        run.run(run.parse_args(arguments))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        written = failure.error_file_data if isinstance(failure.error_file_data, dict) else {}
        message = written.get("message", "<NONE>")
        if message == "<NONE>":  # torch's word for a process that left none
            message = f"process {rank} ended with {_reason(failure.exitcode)}; the others were stopped"
        if failure.exitcode != 130:
            print(f"error: {message}", file=sys.stderr, flush=True)
        return failure.exitcode if failure.exitcode > 0 else 1
    except DistNetworkError as error:
        print(f"error: the processes cannot meet: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        return 130
    except SignalException as stop:
        return 128 + int(stop.sigval)
    return 0


def _reason(exitcode: int) -> str:
    return f"exit code {exitcode}" if exitcode >= 0 else f"signal {signal.Signals(-exitcode).name}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
