"""Training: many steps in one compiled scan, records, checkpoints, clean ends.

=========== ====================================================================
launch      the command: devices, errors in a line, the exit status
runs        a run in its folder, new or continued; its `Options`
loop        `fit`: epochs, evaluation, checkpoints
steps       the state, the optimizer, the compiled segment, predictions
devices     meshes, several processes, how arrays lie on them
checkpoints pytrees on the disk, through orbax
records     config.json, metrics.jsonl, result.json: written whole or not at all
events      the same for TensorBoard
progress    the bar that says how far it has come
interrupts  SIGINT and SIGTERM end a run cleanly
=========== ====================================================================

An experiment in a few calls::

    def train(config, folder, options, console):
        run = open_run(folder, config, options, console)  # new, or continued
        outcome = fit(
            run,
            init_state(...),
            loss=...,
            optimizer=...,
            data=...,
            schedule=...,
            epochs=...,
            evaluate=...,
            console=console,
        )
        return run.finish({**outcome.result(), "seed": config.seed})["interrupted"]


    sys.exit(launch(partial(train, config, folder, options), options))
"""

from lstm_jax.train.checkpoints import Checkpoints
from lstm_jax.train.devices import on_devices, replicate
from lstm_jax.train.interrupts import Interrupts
from lstm_jax.train.launch import launch
from lstm_jax.train.loop import fit
from lstm_jax.train.progress import progress_bar
from lstm_jax.train.records import Records, environment, read_metrics
from lstm_jax.train.runs import Options, Outcome, Progress, Run, Snapshot, open_run
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
    "Options",
    "Outcome",
    "Progress",
    "Records",
    "Run",
    "Snapshot",
    "TrainState",
    "environment",
    "fit",
    "init_state",
    "launch",
    "make_optimizer",
    "on_devices",
    "open_run",
    "predict_rows",
    "progress_bar",
    "read_metrics",
    "replicate",
    "train_segment",
]
