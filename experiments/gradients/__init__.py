"""Gradients under the lens: five ways to the same one, and how they vanish."""

from experiments.gradients import comparison, flow, forward
from experiments.gradients.comparison import ComparisonConfig, compare
from experiments.gradients.flow import FlowConfig, flow_of

__all__ = [
    "ComparisonConfig",
    "FlowConfig",
    "compare",
    "comparison",
    "flow",
    "flow_of",
    "forward",
]
