"""The same training with several seeds: compiled once, measured together.

A `Task` says what is trained, as pure functions of one seed's parameters; `train_seeds`
runs it for all seeds and says how they ended, with their mean and spread.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from experiments.checks import LARGEST, within
from experiments.training import (
    Given,
    Interrupts,
    Run,
    Snapshot,
    descend,
    make_optimizer,
)


@dataclass(frozen=True)
class Training:
    """What all experiments are told of training.

    Attributes:
        cells: names of `lstm_jax.CELLS` or of `experiments.tasks.ablations`, and your
            own as ``module:NAME`` or ``file.py:NAME``.
        seeds: train with the seeds 0, 1, ..., so many.
        steps: updates of the parameters.
        evaluations: how many times they are measured, equally far apart.
        batch_size: sequences a step.
        hidden_size: the state's size.
        learning_rate: at its highest.
        warmup: the share of all steps in which it rises; then it falls, as a cosine.
        weight_decay: decoupled, times the learning rate; not on biases.
        clip_norm: the largest norm of a step's gradients.
    """

    cells: tuple[str, ...] = ("lstm",)
    seeds: int = 3
    steps: int = 1000
    evaluations: int = 20
    batch_size: int = 32
    hidden_size: int = 64
    learning_rate: float = 3e-3
    warmup: float = 0.05
    weight_decay: float = 0.0
    clip_norm: float = 1.0


class Data(NamedTuple):
    """Pytrees of arrays; what is in them is between an experiment and its task.

    Attributes:
        train: for `Task.loss`.
        validation: for `Task.evaluate` during training; choices are made on it.
        test: for `Task.evaluate`, once, at the end.
    """

    train: Any
    validation: Any
    test: Any


class Task(NamedTuple):
    """What is trained, for one seed.

    Attributes:
        init: ``key -> params``.
        loss: ``(params, carry, key, train) -> (loss, carry)``, a step's loss. The
            carry goes from step to step, and no gradient goes through it.
        evaluate: ``(params, split) -> measures``, scalars by name.
        start: ``params -> carry``, before the first step.
    """

    init: Callable[[Array], Any]
    loss: Callable[[Any, Any, Array, Any], tuple[Array, Any]]
    evaluate: Callable[[Any, Any], dict[str, Array]]
    start: Callable[[Any], Any] = lambda params: None


class Scorer(NamedTuple):
    """What trained parameters are used with.

    Attributes:
        init: ``key -> params``, for their shapes.
        score: ``(params, given) -> found``, what a network says of what it is given.
    """

    init: Callable[[Array], Any]
    score: Callable[[Any, Any], Any]


class SeedState(NamedTuple):
    """All that training changes: with a leading axis, of every seed."""

    params: Any
    opt_state: Any
    carry: Any
    step: Array
    key: Array


class Trained(NamedTuple):
    """How the training of all seeds ended.

    Attributes:
        params: with a leading axis of seeds.
        test: by measure, one number a seed.
        steps: those done.
        steps_per_second: of all seeds together, compilation left out; None where no
            step was left to do.
        interrupted: the signal that ended it early, or None.
    """

    params: Any
    test: dict[str, list[float]]
    steps: int
    steps_per_second: float | None
    interrupted: str | None


def train_seeds(
    task: Task,
    data: Data,
    config: Training,
    run: Run,
    show: Callable[[int], None] = lambda steps: None,
) -> Trained:
    """Trains with the seeds 0 to `config.seeds` - 1, or goes on doing so.

    Every evaluation of every seed is a line of metrics.jsonl. SIGINT and SIGTERM end
    training after the evaluation under way, and what was learned by then is measured.

    Args:
        task: what is trained.
        data: what it is trained on and measured by.
        config: how.
        run: where lines and checkpoints go.
        show: told the number of steps done, of each seed, after each evaluation.

    Raises:
        OSError: a record or checkpoint could not be written.
        ValueError: a number of the config is out of range.
    """
    check(config)
    optimizer = make_optimizer(
        config.learning_rate,
        config.steps,
        warmup_steps=int(config.warmup * config.steps),
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
    )
    many = config.steps // config.evaluations
    begin = over_seeds(Given(initial, (task, optimizer)))
    train = over_seeds(Given(train_steps, (task, optimizer, many)), donate=True)
    evaluate = over_seeds(task.evaluate)

    states = begin(jax.vmap(jax.random.key)(jnp.arange(config.seeds)))
    now = run.restore(Snapshot(states, best=()))
    before, seconds = now.progress.step, 0.0
    with Interrupts() as interrupts:
        while (step := now.progress.step) < config.steps:
            start = time.perf_counter()
            states, losses = train(now.state, data.train)
            losses = jax.device_get(losses)
            if step > before:  # the first one compiles
                seconds += time.perf_counter() - start
            measures = jax.device_get(evaluate(states.params, data.validation))
            now = now.trained(states, many)
            run.append(_rows(step + many, {"training_loss": losses, **measures}))
            show(step + many)
            if interrupts.received:
                run.save(now)
                break
            run.save_when_due(now, many)
        params = now.state.params
        test = jax.device_get(evaluate(params, data.test))
    timed = config.seeds * (now.progress.step - before - many)
    return Trained(
        params=params,
        test={name: values.tolist() for name, values in test.items()},
        steps=now.progress.step,
        steps_per_second=timed / seconds if seconds else None,
        interrupted=interrupts.received,
    )


MOST = {
    "seeds": 10_000,
    "steps": LARGEST,
    "evaluations": LARGEST,
    "batch_size": 2**20,
    "hidden_size": 2**16,
}
"""Numbers beyond these are taken for slips of the pen."""


def check(config: Training) -> None:
    """Raises ValueError where a number cannot be trained with."""
    for name, most in MOST.items():
        within(1, most, **{name: getattr(config, name)})
    if not 0 <= config.warmup < 1:
        raise ValueError(f"warmup must be from 0 to 1, 1 excluded; got {config.warmup}")
    if config.steps % config.evaluations:
        raise ValueError(
            "steps must be a multiple of evaluations; got "
            f"steps={config.steps}, evaluations={config.evaluations}"
        )


def over_seeds(function: Callable[..., Any], *, donate: bool = False) -> Any:
    """`function` compiled once, of each seed's first argument; others are shared.

    On a CPU seeds run one after another, which takes less time there than batched
    products of small matrices; elsewhere side by side.

    Args:
        function: of one seed; equal ones share what is compiled.
        donate: whether the memory of the first argument is taken over.
    """
    donated = 2 if donate else ()
    every = jax.jit(_every, static_argnums=(0, 1), donate_argnums=donated)
    return partial(every, function, jax.default_backend() == "cpu")


def _every(
    function: Callable[..., Any], one_by_one: bool, own: Any, *shared: Any
) -> Any:
    def one(own: Any) -> Any:
        return function(own, *shared)

    return lax.map(one, own) if one_by_one else jax.vmap(one)(own)


def initial(
    task: Task, optimizer: optax.GradientTransformation, key: Array
) -> SeedState:
    """The state of one seed before its first step."""
    key_params, key = jax.random.split(key)
    params = task.init(key_params)
    step = jnp.zeros((), jnp.int32)
    return SeedState(params, optimizer.init(params), task.start(params), step, key)


def train_steps(
    task: Task,
    optimizer: optax.GradientTransformation,
    steps: int,
    state: SeedState,
    train: Any,
) -> tuple[SeedState, Array]:
    """Some steps of one seed: the state after, and the mean loss."""

    def step(state: SeedState, _: None) -> tuple[SeedState, Array]:
        key = jax.random.fold_in(state.key, state.step)
        given = state.carry, key, train
        down = descend(task.loss, optimizer, state.params, state.opt_state, *given)
        params, opt_state, (loss, carry), _ = down
        return SeedState(params, opt_state, carry, state.step + 1, state.key), loss

    state, losses = lax.scan(step, state, length=steps)
    return state, losses.mean()


def summary(name: str, values: list[float]) -> dict[str, Any]:
    """A measure over seeds, ready for JSON: mean, sample standard deviation, each.

    A seed whose value is not finite has diverged; the others make mean and deviation,
    which are None where there are too few of them.
    """
    finite = [value for value in values if np.isfinite(value)]
    return {
        name: float(np.mean(finite)) if finite else None,
        f"{name}_std": float(np.std(finite, ddof=1)) if len(finite) > 1 else None,
        f"{name}_of_seeds": [v if np.isfinite(v) else None for v in values],
    }


def _rows(step: int, found: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    return [
        {
            "kind": "evaluation",
            "seed": seed,
            "step": step,
            **{
                name: float(values[seed]) if np.isfinite(values[seed]) else None
                for name, values in found.items()
            },
        }
        for seed in range(len(found["training_loss"]))
    ]
