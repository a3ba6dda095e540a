"""Samplers: where policies meet environments and trajectories come from."""

from surefoot.samplers.base import AbstractSampler as AbstractSampler
from surefoot.samplers.scan import ScanSampler as ScanSampler
