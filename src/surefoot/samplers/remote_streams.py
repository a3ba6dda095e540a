"""Streams in other processes: each worker steps some of them."""

from typing import Any

from surefoot.policies.base import AbstractPolicy
from surefoot.samplers.base import StreamState
from surefoot.samplers.batched import AbstractHostStreams, continue_streams, joined, rows_of
from surefoot.samplers.host_rollouts import Words
from surefoot.samplers.host_runner import HostRunner
from surefoot.samplers.messages import with_warm_up
from surefoot.samplers.remote import AbstractRemoteSampler, idle_runner
from surefoot.samplers.timeline import Timeline
from surefoot.types import Rollout, Task


class RemoteStreams(AbstractHostStreams):
    """Streams that are divided among the workers of a sampler. Each keeps its environments from one batch to
    the next; one that replaces another restores them."""

    def __init__(self, sampler: AbstractRemoteSampler, streams: int, steps: int) -> None:
        """The sampler is closed with the streams."""
        super().__init__(sampler.env, streams, steps)
        self._sampler = sampler

    @property
    def timeline(self) -> Timeline:
        return self._sampler.timeline

    def collect_on_host(
        self, policy: AbstractPolicy, task: Task, state: StreamState, begins: Words, acts: Words
    ) -> tuple[StreamState, Rollout]:
        workers = self._sampler.solo
        futures = [
            workers[i % len(workers)].submit(
                continue_stream,
                i,
                policy,
                task,
                rows_of(state, slice(i, i + 1)),
                begins[i : i + 1],
                acts[i : i + 1],
                self.steps,
                about=f"Stream {i}",
            )
            for i in range(self.streams)
        ]
        for i, future in enumerate(futures):
            self.timeline.label(future, i)
        try:
            after, rollouts = zip(*(future.result() for future in futures), strict=True)
        finally:
            for future in futures:
                future.cancel()
        return joined(after), joined(rollouts)

    def close(self) -> None:
        self._sampler.close()


@with_warm_up(idle_runner)
def continue_stream(runner: HostRunner, number: int, *arguments: Any) -> tuple[StreamState, Rollout]:
    """`continue_streams` of one stream, in a worker.

    Its policy is evaluated for this stream alone: products of matrices of other sizes are rounded otherwise,
    and results would depend on the number of workers.
    """
    return continue_streams(runner.of_stream(number), *arguments)
