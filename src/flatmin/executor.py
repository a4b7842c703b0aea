"""Where items are worked on: in this process, on this machine's cores or GPUs, or on a Dask cluster.

``FLATMIN_SCHEDULER`` chooses: unset or ``local`` starts worker processes here, one thread each, as many as
``FLATMIN_WORKERS`` or as there are cores (GPUs, on a machine with them); ``inline`` works in this process, one item
after another, for debugging; ``tcp://host:port`` uses a running Dask cluster that shares the folder; ``slurm`` starts
one through dask-jobqueue, as its own configuration says. None of it enters a run's key.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flatmin.errors import FlatminError
from flatmin.work import KINDS, perform
from flatmin.workplace import Workplace

WORKER_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    **dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), str(2**32)),
    "MALLOC_TOP_PAD_": str(2**26),
}
"""What a local worker starts with.

One thread: the largest lever on a CPU, where the spinning threads of two workers starve each other, and the condition
of equal bits, because a sum over two threads rounds differently. And memory that a step has used stays with the process
for the next step: by Dask's default it goes back to the system every time, and the page faults of fetching it again
cost a convolutional network a third of its speed (``benchmarks/worker_memory.py``).
"""


class SchedulerError(FlatminError):
    """The scheduler or the number of workers cannot be used."""


@dataclass(frozen=True, eq=False)
class Job:
    """One item as it is sent to a worker; two jobs are the same only if they are one object."""

    id: str
    kind: str
    key: str
    task: Mapping[str, Any]
    workplace: Workplace
    log: Path


def workers_wanted(jobs: int) -> int:
    """Return how many local workers ``jobs`` items need.

    Raises:
        SchedulerError: FLATMIN_WORKERS is not a positive whole number.
    """
    written = os.environ.get("FLATMIN_WORKERS", "").strip()
    if written and not (written.isdigit() and int(written) > 0):
        raise SchedulerError(
            f"FLATMIN_WORKERS={written!r} is not a number of workers: set it to 1 or more, or unset it"
        )
    return max(1, min(jobs, int(written) if written else _gpus() or len(os.sched_getaffinity(0))))


def _gpus() -> int:
    if device_type() == "cpu":
        return 0
    import torch

    return torch.cuda.device_count()


def device_type() -> str:
    """Return ``cuda`` where a GPU is to be used, else ``cpu``; ``FLATMIN_DEVICE=cpu`` leaves GPUs alone.

    Raises:
        SchedulerError: FLATMIN_DEVICE is neither cpu nor cuda, or cuda without a GPU.
    """
    written = os.environ.get("FLATMIN_DEVICE", "")
    if written not in ("", "cpu", "cuda"):
        raise SchedulerError(f"FLATMIN_DEVICE={written!r}: use cpu or cuda, or unset it")
    if written == "cpu" or not (written or list(Path("/dev").glob("nvidia[0-9]*"))):
        return "cpu"
    import torch

    if written and not torch.cuda.is_available():
        raise SchedulerError("FLATMIN_DEVICE=cuda, but torch sees no GPU: unset it, or check the driver")
    return "cuda" if torch.cuda.is_available() else "cpu"


class Executor(contextlib.ExitStack):
    """Works on jobs; workers start with the first job that needs one, and stay until the executor is closed.

    Raises:
        SchedulerError: FLATMIN_SCHEDULER, FLATMIN_WORKERS or FLATMIN_DEVICE cannot be used.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = os.environ.get("FLATMIN_SCHEDULER", "") or "local"
        if self.scheduler not in ("local", "inline", "slurm") and "://" not in self.scheduler:
            raise SchedulerError(f"FLATMIN_SCHEDULER={self.scheduler!r}: use local, inline, slurm or tcp://host:port")
        workers_wanted(1)
        self.client: Any = None

    def execute(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, str | None]]:
        """Work on all jobs and yield each when it ends, with None or the reason of its failure."""
        if self.scheduler == "inline" or all(KINDS[job.kind].light for job in jobs):
            for job in jobs:
                yield job, run_job(job, 0)
        else:
            yield from self._on_workers(jobs)

    def _on_workers(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, str | None]]:
        """Send the jobs to Dask; one whose worker died is sent again, and resumes from its checkpoint."""
        from distributed import as_completed

        if self.client is None:
            self.client = self.enter_context(_client(self.scheduler, len(jobs)))
        elif self.scheduler == "local":
            self.client.cluster.scale(workers_wanted(len(jobs)))
        # the lease's token is in the key: a killed driver's task of the same item is not taken for this one
        futures = {
            self.client.submit(_on_worker, job, key=f"{job.kind}-{job.key}-{job.workplace.token}", pure=False): job
            for job in jobs
        }
        for future in as_completed(futures, loop=self.client.loop):
            try:
                yield futures[future], future.result()
            except (Exception, CancelledError) as error:
                yield futures[future], f"its worker died repeatedly ({type(error).__name__}): see the memory it needs"


def run_job(job: Job, slot: int) -> str | None:
    """Perform a job on the device of a worker: the CPU, or one of the GPUs of its machine. Runs in the worker."""
    place = f"cuda:{slot % max(1, _gpus())}" if device_type() == "cuda" else "cpu"
    workplace = Workplace(job.workplace.folder, job.workplace.token, place)
    return perform(job.kind, job.key, job.task, workplace, job.log)


def _on_worker(job: Job) -> str | None:
    from distributed import get_worker

    worker = get_worker()
    if worker.state.nthreads != 1:
        return "its worker runs several items in one process, which share random generators: start it with --nthreads 1"
    return run_job(job, int(worker.name) if str(worker.name).isdigit() else 0)


@contextlib.contextmanager
def _client(scheduler: str, jobs: int) -> Iterator[Any]:
    import dask
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        if "://" in scheduler:
            address: Any = scheduler
        elif scheduler == "slurm":
            address = stack.enter_context(_slurm_cluster(jobs))
        else:
            # set before the workers start: torch reads them when it is imported
            environment = {**dask.config.get("distributed.nanny.pre-spawn-environ"), **WORKER_ENVIRONMENT}
            stack.enter_context(dask.config.set({"distributed.nanny.pre-spawn-environ": environment}))
            stack.enter_context(dask.config.set({"logging.distributed": "error"}))
            address = stack.enter_context(
                LocalCluster(
                    n_workers=workers_wanted(jobs),
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address="127.0.0.1:0",  # the default port may be another cluster's
                    host="127.0.0.1",
                    memory_limit=0,
                )
            )
        try:
            client = Client(address, set_as_default=False, timeout="20s")
        except (OSError, ValueError) as error:
            raise SchedulerError(f"FLATMIN_SCHEDULER={scheduler!r} does not answer ({error}): is it running?") from None
        yield stack.enter_context(client)


def _slurm_cluster(jobs: int) -> Any:
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise SchedulerError("FLATMIN_SCHEDULER=slurm needs dask-jobqueue: pip install 'flatmin[slurm]'") from None
    try:
        cluster = SLURMCluster(processes=1, worker_extra_args=["--nthreads", "1"])
    except ValueError as error:
        raise SchedulerError(
            f"FLATMIN_SCHEDULER=slurm needs dask-jobqueue's configuration ({error}): write ~/.config/dask/jobqueue.yaml"
        ) from None
    cluster.adapt(maximum=jobs)
    return cluster
