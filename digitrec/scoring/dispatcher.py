"""The executor on Dask: a bounded window of futures. Tasks go out as others come back, never a whole graph.

Dask blames every task that was queued on a worker that died. So what it gives up is only suspect, and runs again, one
by one, when the rest is done; what takes its worker down alone is named. What hangs is treated alike.
"""

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from distributed import Future, KilledWorker, as_completed

from digitrec.errors import ComputationFailed, Unavailable
from digitrec.scoring.cluster import Cluster, within
from digitrec.scoring.compute import Outcome, score_partition
from digitrec.scoring.cost import memory_words
from digitrec.scoring.executors import STALL_S, Compute, Outcomes, failed_by
from digitrec.scoring.request import Task

WINDOW_PER_SLOT = 4
POLL_S = 0.01
LOOK_S = 30.0
"""After so long without an outcome, and again, see whether there are workers at all."""
ANSWER_S = 30.0
"""Time for the scheduler to say what its workers do, or to restart them."""


@dataclass(frozen=True)
class Suspicion:
    """Why no outcome came of a task that may be innocent."""

    why: str


class DaskExecutor:
    """Computes on a Dask cluster (see `executors.Executor`)."""

    def __init__(self, cluster: Cluster, compute: Compute = score_partition, stall_s: float = STALL_S) -> None:
        self.cluster = cluster
        self.workers = cluster.slots
        self.compute = compute
        self.stall_s = stall_s
        self.out: dict[Future[Outcome], Task] = {}
        self.back = self.arrivals()

    def count_memory_losses(self) -> int:
        return self.cluster.memory_losses()

    def run(self, tasks: Iterator[Task]) -> Outcomes:
        """Yield each task with its outcome, as `Executor.run` does. Raises `Unavailable` if the cluster is lost."""
        suspects = []
        for task, answer in self.answers(tasks, self.cluster.slots * WINDOW_PER_SLOT):
            if isinstance(answer, Suspicion):
                suspects.append(task)
            else:
                yield task, answer
        for suspect in suspects:
            for task, answer in self.answers(iter([suspect]), 1):
                lost = self.cluster.memory_losses()
                yield task, guilty(task, answer, lost) if isinstance(answer, Suspicion) else answer

    def answers(self, tasks: Iterator[Task], size: int) -> Iterator[tuple[Task, Outcome | Suspicion]]:
        """Keep `size` tasks out until all have come back or been given up."""
        heard = looked = time.monotonic()
        while True:
            drawing = time.monotonic()
            for task in islice(tasks, size - len(self.out)):
                self.submit(task)
            # To draw may mean to look at thousands of receipts, and to wait for the store: no worker hangs meanwhile.
            heard += time.monotonic() - drawing
            if not self.out:
                return
            if ready := self.back.next_batch(block=False):
                for future in ready:
                    yield self.out.pop(future), self.answer(future)
            elif time.monotonic() - heard > self.stall_s:
                yield from self.give_up()
            else:
                if time.monotonic() - looked > LOOK_S:
                    self.busy_workers()
                    looked = time.monotonic()
                time.sleep(POLL_S)
                continue
            heard = looked = time.monotonic()

    def submit(self, task: Task) -> None:
        """Send a task out. Its key is its own: the same partition may go out twice."""
        key = f"score-{task.request.dataset}-{task.partition.index}-{uuid.uuid4().hex}"
        future = self.cluster.client.submit(self.compute, task, key=key, pure=False)
        self.out[future] = task
        self.back.add(future)

    def arrivals(self) -> as_completed:
        return as_completed(loop=self.cluster.client.loop)

    def answer(self, future: Future[Outcome]) -> Outcome | Suspicion:
        """What came back. If its worker has died since, Dask computes it again meanwhile.

        Raises `Unavailable` if the scheduler is gone: Dask cancels the future then, or cannot fetch what it holds.
        """
        broken = "the connection to the scheduler broke"
        try:
            return future.result(timeout=self.stall_s)
        except CancelledError as error:
            raise self.lost(broken) from error
        except KilledWorker:
            return Suspicion("killed every worker that took it")
        except TimeoutError:
            return self.hung()
        except Exception as error:
            if isinstance(error, OSError) and future.status != "error":
                raise self.lost(broken) from error
            return failed_by(error)

    def hung(self) -> Suspicion:
        return Suspicion(f"gave nothing back in {self.stall_s:g} s")

    def give_up(self) -> list[tuple[Task, Suspicion]]:
        """Take back everything that is out, and restart the workers that hold it, if they have a nanny to do so."""
        client, busy = self.cluster.client, self.busy_workers()
        abandoned = list(self.out.values())
        client.cancel(list(self.out), force=True)
        self.out, self.back = {}, self.arrivals()
        with suppress(ValueError, Unavailable):
            within(ANSWER_S, lambda: client.restart_workers(busy, raise_for_error=False), "workers do not restart")
        return [(task, self.hung()) for task in abandoned]

    def busy_workers(self) -> list[str]:
        """Addresses of the workers that have something to do. Raises `Unavailable` if there is no worker at all."""
        ask = self.cluster.client.processing
        held = within(ANSWER_S, ask, f"the Dask scheduler at {self.cluster.address} does not answer")
        if not held:
            raise self.lost("it has no workers left")
        return [worker for worker, keys in held.items() if keys]

    def lost(self, how: str) -> Unavailable:
        return Unavailable(
            f"the Dask cluster at {self.cluster.address} is lost: {how}; finished partitions are kept, "
            "the same command goes on from there"
        )


def guilty(task: Task, suspicion: Suspicion, memory_losses: int) -> ComputationFailed:
    """Return the verdict on a task that ran alone and still did not come back."""
    if memory_losses:
        return ComputationFailed(f"{task} {suspicion.why}, alone too: {memory_words(memory_losses)}")
    return ComputationFailed(f"{task} {suspicion.why}, alone too; look at {task.shard_address}")
