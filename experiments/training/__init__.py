"""Training: many steps in one compiled scan, records, checkpoints, clean ends.

=========== ====================================================================
launch      the command: devices, errors in a line, the exit status
runs        a run in its folder, new or continued; its `Options`
loop        `fit`: epochs, evaluation, checkpoints
steps       the state, the optimizer, the compiled segment, predictions
devices     meshes, several processes, how arrays lie on them
checkpoints pytrees on the disk, through orbax
configs     config.json, read back
records     config.json, metrics.jsonl, result.json: written whole or not at all
locks       one process at a time in a run's folder
events      the same for TensorBoard
progress    the bar that says how far it has come
interrupts  SIGINT and SIGTERM end a run cleanly
=========== ====================================================================

An experiment in a few calls::

    def train(config, folder, options, console):
        if kept_result(folder, config, options, console):
            return None
        with open_run(folder, config, options, console) as run:  # new, or continued
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

from experiments.training.checkpoints import Checkpoints
from experiments.training.configs import read_config
from experiments.training.devices import on_devices, replicate
from experiments.training.interrupts import Interrupts
from experiments.training.launch import launch
from experiments.training.loop import fit
from experiments.training.progress import progress_bar
from experiments.training.records import Records, environment, read_metrics
from experiments.training.runs import (
    Options,
    Outcome,
    Progress,
    Run,
    Snapshot,
    kept_result,
    open_run,
)
from experiments.training.steps import (
    Given,
    TrainState,
    descend,
    init_state,
    make_optimizer,
    predict_rows,
    train_segment,
)

__all__ = [
    "Checkpoints",
    "Given",
    "Interrupts",
    "Options",
    "Outcome",
    "Progress",
    "Records",
    "Run",
    "Snapshot",
    "TrainState",
    "descend",
    "environment",
    "fit",
    "init_state",
    "kept_result",
    "launch",
    "make_optimizer",
    "on_devices",
    "open_run",
    "predict_rows",
    "progress_bar",
    "read_config",
    "read_metrics",
    "replicate",
    "train_segment",
]
