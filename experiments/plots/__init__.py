"""Pictures: the only room that imports matplotlib. They are drawn without a screen."""

from experiments.plots.costs import TWELVE, Panel, cost_curves, cost_dots
from experiments.plots.gradients import (
    forward_gradients,
    gradient_comparison,
    gradient_flow,
    gradient_overview,
)
from experiments.plots.intervals import interval_chart
from experiments.plots.reviews import ScoredText, running_scores
from experiments.plots.state_tracking import length_curves, loss_curves
from experiments.plots.training import run_curves, seed_curves, training_curves

__all__ = [
    "TWELVE",
    "Panel",
    "ScoredText",
    "cost_curves",
    "cost_dots",
    "forward_gradients",
    "gradient_comparison",
    "gradient_flow",
    "gradient_overview",
    "interval_chart",
    "length_curves",
    "loss_curves",
    "run_curves",
    "running_scores",
    "seed_curves",
    "training_curves",
]
