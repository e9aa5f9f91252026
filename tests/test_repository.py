"""The repository: its lock, its versions, who imports what, what no file may say."""

import ast
import doctest
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import lstm_jax as lj

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCKED_EXTRAS = {
    "requirements.txt": (
        *("flax", "imdb", "tfds", "experiments", "tensorboard", "bench", "dev"),
    ),
    "requirements-docs.txt": ("docs",),
}
LOCKS = {name: (ROOT / name).read_text("utf-8") for name in LOCKED_EXTRAS}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")

# Every module's imports lead only to the left.
CHAIN = (
    "jaxprs",
    "identities",
    "cell",
    "numbered",
    "gated",
    "initializers",
    "cells",
    "engine",
    "layers",
)
# These look at the chain; nothing in the chain looks at them.
ONLOOKERS = ("derivation", "gradcheck", "graph", "interop", "rtrl")

# What a module of the library may import beside the standard library, jax and numpy.
MAY_IMPORT = {
    "gradcheck": {"rich"},
    "interop": {"flax"},  # weights of torch and Keras are names and arrays
}


# --- the lock ------------------------------------------------------------------------


def locked_pins(lock: str) -> list[tuple[Requirement, int]]:
    """The pins of a lock, each with the number of its hashes."""
    lines = re.sub(r"(?m)^ *#.*\n", "", LOCKS[lock]).replace("\\\n", " ").splitlines()
    return [
        (Requirement(entry.split(" --hash=")[0]), entry.count(" --hash=sha256:"))
        for entry in lines
    ]


def pinned_for(lock: str, python: str) -> dict[str, Version]:
    """What a lock installs on Linux, by name."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
    }
    pinned = {}
    for pin, _ in locked_pins(lock):
        if pin.marker is None or pin.marker.evaluate(environment):
            name = canonicalize_name(pin.name)
            assert name not in pinned, f"two pins of {name} for Python {python}"
            pinned[name] = Version(next(iter(pin.specifier)).version)
    return pinned


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_names_no_host_and_no_folder(lock):
    assert "://" not in LOCKS[lock]
    assert not re.search(r"(?m)^-|file:| @ ", LOCKS[lock])


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_is_exact_and_has_hashes(lock):
    pins = locked_pins(lock)
    assert len(pins) > 50
    for pin, hashes in pins:
        assert [s.operator for s in pin.specifier] == ["=="], str(pin)
        assert hashes, str(pin)


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_satisfies_the_project_file(lock, python):
    pinned = pinned_for(lock, python)
    extras = PROJECT["optional-dependencies"]
    inside = [wanted for extra in LOCKED_EXTRAS[lock] for wanted in extras[extra]]
    for requirement in map(Requirement, PROJECT["dependencies"] + inside):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version in requirement.specifier, f"{requirement}: {version} is pinned"


@pytest.mark.parametrize("python", PYTHONS)
def test_the_sites_lock_changes_nothing_of_the_other(python):
    """`make docs` installs it into the same environment."""
    base, site = (pinned_for(lock, python) for lock in LOCKS)
    both = set(base) & set(site)
    assert len(both) > 10
    assert {name: site[name] for name in both} == {name: base[name] for name in both}


def test_torch_and_keras_stay_out_of_the_lock():
    """Their right wheels depend on the machine; the default ones are gigabytes."""
    names = {canonicalize_name(p.name) for lock in LOCKS for p, _ in locked_pins(lock)}
    extra = PROJECT["optional-dependencies"]["interop"]
    assert not names & {Requirement(wanted).name for wanted in extra}


# --- versions, commands, words -------------------------------------------------------


def test_one_version_everywhere():
    assert PROJECT["dynamic"] == ["version"]  # read from the library
    version = re.escape(lj.__version__)
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.search(rf"(?m)^version: {version}$", citation)
    assert re.search(rf"(?m)^## {version}\b", changelog)


def test_every_make_command_that_is_told_exists():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"(?m)^([a-z-]+):", makefile))
    places = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        ROOT / ".ci/run",
        *ROOT.glob(".github/workflows/*.yml"),
        ROOT / ".pre-commit-config.yaml",
    ]
    # A command stands at the start of a line, in backquotes, or after `run:`.
    pattern = r"(?m)(?:^\s*\$?\s*|`|run: |entry: )make ((?:--silent )?[a-z][a-z -]*)"
    for place in places:
        for words in re.findall(pattern, place.read_text("utf-8")):
            told = [word for word in words.split() if not word.startswith("-")]
            if place.suffix == ".md":
                told = told[:1]
            assert set(told) <= targets, f"{place.name}: make {words}"


def committed_texts() -> list[Path]:
    """The text files under version control."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    binary = {".png", ".npy", ".npz", ".csv"}
    return [file for file in files if file.suffix not in binary and file.is_file()]


def test_no_file_names_a_package_index_or_a_path_of_one_machine():
    # Folders are matched where a path starts: `docs/work/` is nobody's machine.
    forbidden = re.compile(
        r"(?<![\w./~*>-])/(?:root|home|work|opt|Users)/"
        r"|py" + r"pi\.(?:org|python)|python" + r"hosted"
    )
    for file in committed_texts():
        found = forbidden.search(file.read_text("utf-8"))
        assert not found, f"{file.relative_to(ROOT)}: {found}"


def test_pythons_are_the_same_everywhere():
    told = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if "Python ::" in c]
    assert tuple(told) == PYTHONS
    workflow = (ROOT / ".github/workflows/ci.yml").read_text("utf-8")
    assert set(re.findall(r'"(3\.\d+)"', workflow)) == set(PYTHONS)


# --- who imports what ----------------------------------------------------------------


def modules_of(*folders: str) -> dict[str, Path]:
    """The modules of these packages, by dotted name."""
    found = {}
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = file
    return found


@cache
def imports_of(name: str, file: Path) -> set[tuple[str, str | None]]:
    """The imports of a module anywhere in it: (dotted module, name taken from it)."""
    found: set[tuple[str, str | None]] = set()
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {(alias.name, None) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            module = importlib.util.resolve_name(relative, package)
            found |= {(module, alias.name) for alias in node.names}
    return found


MODULES = modules_of("lstm_jax", "experiments", "benchmarks")
LIBRARY = {name: file for name, file in MODULES.items() if name.startswith("lstm_jax")}
LABORATORY = {n: file for n, file in MODULES.items() if n.startswith("experiments")}


def room(name: str) -> str:
    """The part of a package a module belongs to: lstm_jax.cells.lstm -> cells."""
    return [*name.split("."), ""][1]


def rooms_behind(modules: dict[str, Path], package: str) -> dict[str, set[str]]:
    """For every part of a package the other parts it imports, directly or not."""
    behind: dict[str, set[str]] = {room(name): set() for name in modules}
    for name, file in modules.items():
        for module, taken in imports_of(name, file):
            # `from lstm_jax import cells` takes a part; `import lstm_jax` the whole.
            target = f"{module}.{taken}" if module == package else module
            if target.split(".")[0] == package:
                known = room(target) if room(target) in behind else ""
                behind[room(name)] |= {known} - {room(name)}
    changed = True
    while changed:
        changed = False
        for parts in behind.values():
            wider = parts.union(*(behind[part] for part in parts))
            changed |= wider != parts
            parts |= wider
    return behind


ROOMS = {room(n) for n, file in LABORATORY.items() if file.name == "__init__.py"}


@pytest.fixture(scope="module")
def behind():
    return rooms_behind(LIBRARY, "lstm_jax")


@pytest.mark.parametrize("part", sorted({room(name) for name in LIBRARY}))
def test_imports_go_one_way(behind, part):
    assert part == "" or "" not in behind[part], f"{part} imports the whole library"
    assert part not in behind[part], f"{part} imports itself through others"
    if part in CHAIN:
        later = CHAIN[CHAIN.index(part) + 1 :] + ONLOOKERS
        assert not behind[part] & set(later)


def test_imports_of_the_laboratory_go_one_way():
    behind = rooms_behind(LABORATORY, "experiments")
    commands = {
        room(name)
        for name, file in LABORATORY.items()
        if '__name__ == "__main__"' in file.read_text("utf-8")
    }
    for part, parts in behind.items():
        assert part not in parts, f"{part} imports itself through others"
        assert not parts & commands, f"{part} imports a command"
    for name, file in LABORATORY.items():
        for module, _ in imports_of(name, file):
            assert module.split(".")[0] not in ("benchmarks", "tests"), name


@pytest.mark.parametrize(
    "name", sorted(name for name in MODULES if name not in LIBRARY)
)
def test_rooms_of_the_laboratory_are_used_through_their_doors(name):
    for module, taken in imports_of(name, MODULES[name]):
        package, _, inside = module.partition(".")
        other = package == "experiments" and room(module) in ROOMS - {"", room(name)}
        if other or (package == "experiments" and name.startswith("benchmarks")):
            assert "." not in inside, f"{name} reaches into {module}"
        if other and taken:
            door = importlib.import_module(module)
            assert taken in door.__all__, f"{module} does not export {taken}"


@pytest.mark.parametrize("name", sorted(LIBRARY))
def test_the_library_imports_only_what_its_table_allows(name):
    allowed = {"lstm_jax", "jax", "numpy", *sys.stdlib_module_names}
    allowed |= MAY_IMPORT.get(room(name), set())
    imported = {module.split(".")[0] for module, _ in imports_of(name, LIBRARY[name])}
    assert imported <= allowed


def test_the_wheel_asks_for_what_the_library_imports():
    asked = {Requirement(wanted).name for wanted in PROJECT["dependencies"]}
    extras = {
        e: {Requirement(w).name for w in PROJECT["optional-dependencies"][e]}
        for e in ("flax", "experiments")
    }
    assert asked == {"jax", "jaxlib", "numpy", *MAY_IMPORT["gradcheck"]}
    assert extras["flax"] == MAY_IMPORT["interop"] <= extras["experiments"]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_module_takes_private_names_or_draws_by_itself(name):
    for module, taken in imports_of(name, MODULES[name]):
        if module.split(".")[0] in ("lstm_jax", "experiments", "benchmarks"):
            private = [p for p in (*module.split("."), taken or "") if p[:1] == "_"]
            inside = module.rpartition(".")[0] == name.rpartition(".")[0]
            assert inside or not private, f"{module}: {taken}"
        if module.split(".")[0] == "matplotlib":
            assert name.startswith("experiments.plots.")


def test_importing_the_library_loads_jax_and_numpy_alone():
    program = (
        "import sys; import jax, numpy; before = set(sys.modules); import lstm_jax;"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    allowed = {"lstm_jax", "jax", "jaxlib", "numpy", *sys.stdlib_module_names}
    assert {name for name in run.stdout.split() if name in allowed} >= {"lstm_jax"}
    assert set(run.stdout.split()) <= allowed


# --- what the public names say of themselves -----------------------------------------


@pytest.mark.parametrize("name", sorted(getattr(lj, "__all__", ())))
def test_every_public_name_has_a_docstring(name):
    value = getattr(lj, name)
    if not (callable(value) or inspect.ismodule(value)):
        return  # a table or a constant: the module's docstring tells
    said = inspect.getdoc(value) or ""
    # A NamedTuple or a dataclass without one gets its signature.
    assert said, f"{name} has no docstring"
    assert not said.startswith(f"{name}("), f"{name} has no docstring of its own"


WITH_EXAMPLES = (
    *("Zoneout", "check_gradients", "check_vjp", "conv_lstm", "derive"),
    *("mixed_precision", "named", "runner_of", "step", "unroll"),
)


@pytest.mark.jax_defaults
@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_example_in_a_docstring_runs(name):
    value = getattr(lj, name)
    names = vars(sys.modules[value.__module__])
    [example] = doctest.DocTestFinder(recurse=False).find(value, name, globs=names)
    outcome = doctest.DocTestRunner().run(example)
    assert outcome.attempted, f"{name} has no example"
    assert not outcome.failed, name


def test_every_example_in_a_docstring_is_run():
    having = [
        f"{function.name} in {name}"
        for name, file in LIBRARY.items()
        for function in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(function, (ast.FunctionDef, ast.ClassDef))
        and ">>> " in (ast.get_docstring(function) or "")
    ]
    assert sorted(entry.split()[0] for entry in having) == sorted(WITH_EXAMPLES), having


@pytest.mark.jax_defaults
@pytest.mark.parametrize("place", ["README.md", "docs/engine.md"])
def test_the_examples_in_documents_run(place):
    text = (ROOT / place).read_text("utf-8")
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```", text)
    assert blocks
    names: dict[str, object] = {"__name__": "example"}  # shared: later blocks build on
    for block in blocks:
        exec(compile(block, place, "exec"), names)
