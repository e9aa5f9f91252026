"""Training: many steps in one compiled scan, records, checkpoints, clean ends.

========== =====================================================================
steps      the state, the optimizer, the compiled segment, predictions
loop       `fit`: epochs, evaluation, the best checkpoint, progress
records    config.json, metrics.jsonl, result.json: written whole or not at all
checkpoints  parameters on the disk, through orbax
interrupts SIGINT and SIGTERM end a run cleanly
========== =====================================================================
"""

from lstm_jax.train.checkpoints import Checkpoints
from lstm_jax.train.interrupts import Interrupts
from lstm_jax.train.loop import Outcome, fit
from lstm_jax.train.records import Records, environment, read_metrics
from lstm_jax.train.steps import (
    TrainState,
    init_state,
    make_optimizer,
    predict_rows,
    train_segment,
)

__all__ = [
    "Checkpoints",
    "Interrupts",
    "Outcome",
    "Records",
    "TrainState",
    "environment",
    "fit",
    "init_state",
    "make_optimizer",
    "predict_rows",
    "read_metrics",
    "train_segment",
]
