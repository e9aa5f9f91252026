"""The libraries that are compared, one file each, behind one small interface.

A peer's module has a function ``build(problem, device) -> Built``, and is imported in
a process of its own. `PEERS` says what must be installed for it.
"""

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, NamedTuple

from benchmarks.problem import Outcome, Problem


class Built(NamedTuple):
    """A layer in a library, ready to run.

    Attributes:
        forward: runs the outputs and waits for them.
        value_and_gradient: runs J and its gradients by all weights and by the inputs,
            and waits for them.
        outcome: outputs and gradients, converted.
        compile_seconds: what it took to trace and compile `value_and_gradient`; None
            where nothing is compiled.
        temporary_bytes: the compiler's figure of the memory that `value_and_gradient`
            needs beside arguments and results; None where there is no such figure.
    """

    forward: Callable[[], Any]
    value_and_gradient: Callable[[], Any]
    outcome: Callable[[], Outcome]
    compile_seconds: float | None
    temporary_bytes: int | None


class Peer(NamedTuple):
    """A line of the comparison.

    Attributes:
        module: the file in this folder.
        packages: what must be installed.
        options: passed on to its ``build``.
        ours: whether it is this library, which knows all cells.
        cells: those that it has with the same equations as ours, if it is not.
        gpu_only: whether it needs a GPU.
    """

    module: str
    packages: tuple[str, ...] = ()
    options: Mapping[str, str] = MappingProxyType({})
    ours: bool = False
    cells: tuple[str, ...] = ("lstm",)
    gpu_only: bool = False


COMMON = ("lstm", "gru")
SIMPLE = ("rnn_tanh", "rnn_relu")

PEERS: dict[str, Peer] = {
    "manual": Peer("own", ours=True),
    "manual, states": Peer("own", options={"memory": "states"}, ours=True),
    "manual, recompute": Peer("own", options={"memory": "recompute"}, ours=True),
    "manual, scan": Peer("own", options={"native": "0"}, ours=True),
    "automatic": Peer("own", options={"gradient": "automatic"}, ours=True),
    "flax": Peer("flax_rnn", ("flax",), cells=(*COMMON, *SIMPLE)),
    "equinox": Peer("equinox_rnn", ("equinox",), cells=COMMON),
    # Its GRU resets before the product; its simple cell has rectifiers alone.
    "haiku": Peer("haiku_rnn", ("haiku",), cells=("lstm", "gru_before", "rnn_relu")),
    "keras": Peer("keras_rnn", ("keras",), cells=(*COMMON, "gru_before", *SIMPLE)),
    "torch": Peer("torch_rnn", ("torch",), cells=(*COMMON, *SIMPLE)),
    "cudnn": Peer("cudnn_lstm", gpu_only=True),
}
"""All that can be compared. "manual" is what the others' times are divided by."""


def missing(peer: Peer, device: str) -> str | None:
    """Why a peer cannot run here, or None if it can."""
    if peer.gpu_only and device != "gpu":
        return "needs --device gpu"
    absent = [package for package in peer.packages if find_spec(package) is None]
    return f"{', '.join(absent)} not installed" if absent else None


def load(name: str) -> Callable[[Problem, str], Built]:
    """Imports a peer; what builds its layer from a problem and a device."""
    peer = PEERS[name]
    module = import_module(f"benchmarks.peers.{peer.module}")
    return partial(module.build, **peer.options)
