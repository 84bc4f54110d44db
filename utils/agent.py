"""torchrun's agent, which knows what a stop is and when a restart is no failure."""

import os
import signal
from typing import TYPE_CHECKING, Any

from torch.distributed import run
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.launcher import api

from utils.stop import RESTART

if TYPE_CHECKING:
    from utils.launch import Job


class Agent(LocalElasticAgent):
    """Overrides what torch documents for extending an agent."""

    job: "Job"

    def _initialize_workers(self, worker_group: WorkerGroup) -> None:
        self._leave_if_asked()
        super()._initialize_workers(worker_group)

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        self.job.launcher().stopped_file.unlink(missing_ok=True)
        self.job.starting = True
        self._leave_if_asked()  # a signal from now on is left to the workers
        try:
            pids = super()._start_workers(worker_group)
            self.job.workers = list(pids.values())
        finally:
            self.job.starting = False
        return pids

    def _stop_workers(self, worker_group: WorkerGroup) -> None:
        super()._stop_workers(worker_group)
        self.job.workers = []

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        """A run that was asked to stop is not started again; workers that ask for a restart do not use one up."""
        result = super()._monitor_workers(worker_group)
        if result.state == WorkerState.FAILED:
            if self.job.stop_file.exists():
                self._remaining_restarts = 0
            elif all(failure.exitcode == RESTART for failure in result.failures.values()):
                self._remaining_restarts += 1
        return result

    def _exit_barrier(self) -> None:
        """Wait for the other machines, unless this one leaves a run that goes on without it."""
        self.job.finished = True
        if self.job.elastic:
            self._leave_if_asked()
        super()._exit_barrier()

    def _leave_if_asked(self) -> None:
        """Torch's own exception for it: any other way out would close the rendezvous for everybody."""
        if self.job.stop_file.exists():
            raise SignalException("asked to stop", signal.SIGTERM)


def torchrun(arguments: list[str], job: "Job") -> None:
    """`torchrun ARGUMENTS` with this agent."""
    parsed = run.parse_args(arguments)
    fewest, most = run.parse_min_max_nnodes(parsed.nnodes)
    job.elastic = fewest < most
    job.launcher()._replace(elastic=job.elastic).announce()
    if job.elastic or parsed.max_restarts:
        # torch would keep one store for all restarts: workers find the addresses of earlier ones there, and a machine
        # that joins later waits for an address in vain
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    Agent.job = job
    api.LocalElasticAgent = Agent  # type: ignore[misc]  # launch_agent has no parameter for it
    run.run(parsed)
