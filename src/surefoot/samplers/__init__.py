"""Samplers: they roll out policies in environments and return trajectories."""

from surefoot.samplers.base import (
    AbstractCollector as AbstractCollector,
    AbstractSampler as AbstractSampler,
)
from surefoot.samplers.batched import BatchedSampler as BatchedSampler, BatchedStreams as BatchedStreams
from surefoot.samplers.options import (
    InProcess as InProcess,
    Processes as Processes,
    Ray as Ray,
    SamplerOptions as SamplerOptions,
)
from surefoot.samplers.processes import ProcessSampler as ProcessSampler
from surefoot.samplers.ray import RaySampler as RaySampler
from surefoot.samplers.scan import ScanSampler as ScanSampler, StreamSampler as StreamSampler
