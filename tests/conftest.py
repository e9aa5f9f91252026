"""How every test runs: float64, strict promotion, checked annotations, no accelerator.

Gradients are compared to 1e-12, so arrays are float64 unless a test asks for less.
Under strict promotion an operation that would mix dtypes in silence raises, and so does
one that would broadcast from fewer axes to more, unless a test carries the mark
``promotes_ranks``. beartype checks the library's annotations at every call. A test of
something that needs JAX as it comes, optax's Adam for one, carries the mark
``jax_defaults``.
"""

import ctypes
import gc
import os
import resource
import shutil
import sys
import tempfile
from contextlib import ExitStack
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

# Read by JAX when it is imported, and by the programs that tests start. What they
# compile runs once or twice on small arrays, so the compiler is told to try less.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiled steps are compiled sooner so, and take longer, which does not matter here.
os.environ.setdefault("CXXFLAGS", "-O1")
if os.environ["JAX_PLATFORMS"] == "cpu":
    compiler_flags = [
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
        "--xla_cpu_parallel_codegen_split_count=1",
    ]
    if version("jaxlib").startswith("0.10."):  # XLA refuses flags it does not know
        compiler_flags.append("--xla_cpu_use_fusion_emitters=false")
    os.environ.setdefault("XLA_FLAGS", " ".join(compiler_flags))
    # What one module, worker or program of this run has compiled, the others load.
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        compiled = tempfile.TemporaryDirectory(prefix="compiled_for_tests_")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled.name
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import hypothesis
import jax
import psutil
import pytest
from annotations import check_annotations_of

# Python goes through all objects whenever some hundreds are new: a tenth of the run.
gc.set_threshold(50_000, 20, 50)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
check_annotations_of(
    [
        "lstm_jax",
        "experiments.cell_page",
        "experiments.data",
        "experiments.explain_page",
        "experiments.gradients",
        "experiments.pages",
        "experiments.plots",
        "experiments.sentiment",
        "experiments.tasks",
        "experiments.training",
    ]
)

# The first run of an example compiles, so its time says nothing. Derandomized, so that
# a failure is everyone's and not a matter of luck.
hypothesis.settings.register_profile(
    "lstm_jax",
    deadline=None,
    derandomize=True,
    max_examples=25,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("lstm_jax")


USAGES = pytest.StashKey[dict]()


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_collection_modifyitems(config, items):
    """Skips what is left out, each with a reason that ends up in the summary."""
    for item in items:
        if item.get_closest_marker("slow") and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: `make test-all` runs it"))
        if item.get_closest_marker("gpu") and jax.default_backend() != "gpu":
            item.add_marker(pytest.mark.skip(reason="gpu: `make test-gpu` runs it"))
        needs = item.get_closest_marker("interop")
        absent = [name for name in needs.args if not find_spec(name)] if needs else []
        if absent:
            reason = f"interop: {', '.join(absent)} not installed"
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish():
    gc.freeze()  # what is imported by now stays, so no collection has to look at it


LEFT_BEHIND = [0.0]  # GB that were still held when programs were last dropped


def drop_compiled_programs():
    """Gives back their memory, which the C library would keep (glibc; others don't)."""
    jax.clear_caches()
    gc.collect()
    if malloc_trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        malloc_trim(0)
    LEFT_BEHIND[0] = resident()


def resident() -> float:
    """GB of memory that this process holds now."""
    return psutil.Process().memory_info().rss / 1e9


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Sets JAX as it comes around a test marked so, wider fixtures included."""
    with ExitStack() as settings:
        if item.get_closest_marker("jax_defaults"):
            settings.enter_context(jax.enable_x64(False))
            settings.enter_context(jax.numpy_dtype_promotion("standard"))
        if {"jax_defaults", "promotes_ranks"} & {m.name for m in item.iter_markers()}:
            settings.enter_context(jax.numpy_rank_promotion("allow"))
        outcome = yield
    # Or a worker takes gigabytes. Not sooner: dropping takes a quarter of a second, and
    # as much again until what all modules use is there once more. Nor again at once for
    # what dropping does not give back.
    if resident() > max(1.2, LEFT_BEHIND[0] + 0.2):
        drop_compiled_programs()
    return outcome


@pytest.fixture
def own_cell(tmp_path) -> Path:
    """A file of somebody's, with the cell NAME, which is called "name"."""
    skeleton = Path(__file__).parent.parent / "docs/skeleton_cell.py"
    return Path(shutil.copy(skeleton, tmp_path / "my_cell.py"))


# --- what a run took -----------------------------------------------------------------


def usage() -> tuple[float, float]:
    """Processor seconds, with those of programs that were started; GB at the peak."""
    mine, theirs = map(
        resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    seconds = sum(u.ru_utime + u.ru_stime for u in (mine, theirs))
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, mine.ru_maxrss * unit / 1e9


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):  # a worker of xdist
        session.config.workeroutput["usage"] = usage()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Keeps what a worker says it took; one that crashed says nothing."""
    usages = node.config.stash.setdefault(USAGES, {})
    usages[node.gateway.id] = getattr(node, "workeroutput", {}).get("usage")


def pytest_terminal_summary(terminalreporter, config):
    """Processor seconds and memory, of which `make test` is to take little."""
    workers = config.stash.get(USAGES, {})
    seconds, peak = usage()  # of a controller too: its workers have ended
    told = [f"{name} {u[1]:.2f}" for name, u in sorted(workers.items()) if u]
    terminalreporter.write_line(
        f"{seconds:.0f} s of processor time; GB at the peak: "
        + (", ".join(told) or f"{peak:.2f}")
    )
