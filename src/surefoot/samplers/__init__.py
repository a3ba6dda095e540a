"""Samplers: where policies meet environments and trajectories come from."""

from surefoot.samplers.base import (
    AbstractCollector as AbstractCollector,
    AbstractSampler as AbstractSampler,
)
from surefoot.samplers.scan import ScanSampler as ScanSampler
from surefoot.samplers.stream import StreamSampler as StreamSampler
