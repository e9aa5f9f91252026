"""How every test runs: float64, strict promotion, checked annotations, no accelerator.

Gradients are compared to 1e-12, so arrays are float64 unless a test asks for less.
Under strict promotion an operation that would mix dtypes in silence raises. jaxtyping
and beartype check the library's annotations at every call. A test of something that
needs JAX as it comes, optax's Adam for one, carries the mark ``jax_defaults``.
"""

import os
from contextlib import ExitStack
from importlib.util import find_spec

# Read by JAX when it is imported, and by the programs that tests start. What they
# compile runs once or twice on small arrays, so the compiler is told to try less.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiled steps are compiled sooner so, and take longer, which does not matter here.
os.environ.setdefault("CXXFLAGS", "-O1")
if os.environ["JAX_PLATFORMS"] == "cpu":
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    )

import hypothesis
import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
install_import_hook(
    [
        "lstm_jax",
        "experiments.data",
        "experiments.plots",
        "experiments.sentiment",
        "experiments.training",
    ],
    "beartype.beartype",
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


@pytest.fixture(scope="module", autouse=True)
def _compiled_programs_end_with_their_module():
    """What was compiled is dropped after each module, or a worker takes gigabytes."""
    yield
    jax.clear_caches()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Sets JAX as it comes around a test marked so, wider fixtures included."""
    with ExitStack() as settings:
        if item.get_closest_marker("jax_defaults"):
            settings.enter_context(jax.enable_x64(False))
            settings.enter_context(jax.numpy_dtype_promotion("standard"))
        return (yield)
