"""Libraries from their text: what the cache holds, and what may be missing.

The libraries here hold one function, so that they are compiled at once.
"""

import os
import subprocess
import sys
import threading

import pytest

from lstm_jax.engine.compiled import build, processor

ANSWER = 'extern "C" int answer() { return 42; }'


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own, and lines that can be said again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    build.say_once.cache_clear()
    return tmp_path / "cache" / "lstm_jax" / "compiled"


def answer(source=ANSWER):
    return build.load(source)[1].answer()


def lines(caplog):
    return [record.getMessage() for record in caplog.records]


needs_a_compiler = pytest.mark.skipif(
    not any(map(build.shutil.which, build.COMPILERS)), reason="no C++ compiler"
)


@needs_a_compiler
def test_compiled_once_and_read_from_the_cache(cache, monkeypatch):
    assert answer() == 42
    [file] = cache.iterdir()
    monkeypatch.setattr(build, "_compiled", None)
    assert answer() == 42
    assert [file] == list(cache.iterdir())


@needs_a_compiler
def test_what_a_library_was_made_with_is_part_of_its_name(monkeypatch):
    """Its headers come with jaxlib, which may be another with the same JAX."""
    keys = {build.load(ANSWER)[0]}
    monkeypatch.setattr(build, "version", lambda _: "another")
    keys.add(build.load(ANSWER)[0])
    monkeypatch.setattr(build, "processor", lambda: "another")
    keys.add(build.load(ANSWER)[0])
    monkeypatch.setenv("CXXFLAGS", "-O1 -DOTHER")
    keys.add(build.load(ANSWER)[0])
    assert len(keys) == 4


@needs_a_compiler
@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\x7fELF, foreign"]
)
def test_a_damaged_library_is_made_again(cache, caplog, damage):
    """In another process it would end the program as soon as it is loaded."""
    content = build._compiled(build._compiler(), ANSWER)
    key, _ = build.load(ANSWER)
    for file in cache.iterdir():
        file.unlink()  # the one that is loaded stays whole
    path = cache / f"{key}-{build._checksum(content)}.so"
    path.write_bytes(damage(content))
    assert answer() == 42
    [line] = lines(caplog)
    assert "is damaged; it is made again" in line
    [file] = cache.iterdir()
    assert file.stem == f"{key}-{build._checksum(file.read_bytes())}"


@needs_a_compiler
def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert answer() == 42
    [line] = lines(caplog)
    assert "made again in every process: could not write" in line


@needs_a_compiler
def test_no_home_directory(monkeypatch, caplog):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(build, "default_cache_dir", nowhere)
    assert answer() == 42
    assert "Could not determine home directory" in "".join(lines(caplog))


@needs_a_compiler
def test_a_compiler_of_several_words(monkeypatch):
    found = next(filter(build.shutil.which, build.COMPILERS))
    monkeypatch.setenv("CXX", f"{found} -DNUMBER=43")
    source = 'extern "C" int answer() { return NUMBER; }'
    assert answer(source) == 43
    monkeypatch.setenv("CXXFLAGS", "-UNUMBER '-DNUMBER=44'")
    assert answer(source) == 44


@pytest.mark.parametrize(
    ("compiler", "said"),
    [
        ("/nowhere/c++", "/nowhere/c++"),
        ("c++ 'unbalanced", "No closing quotation"),
        ("false", "Command '.*' returned non-zero"),
        (r"""sh -c "printf 'caf\351: error: \377 is no option' >&2; false" """, "caf"),
    ],
)
def test_no_compiler(monkeypatch, compiler, said):
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(build.NotBuilt, match=said):
        build.load(ANSWER)


def test_no_compiler_at_all(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(build.NotBuilt, match=r"no C\+\+ compiler"):
        build.load(ANSWER)


@needs_a_compiler
def test_an_error_in_the_text_is_told():
    with pytest.raises(build.NotBuilt, match=r"error: .*nothing"):
        build.load("int answer() { return nothing; }")


@needs_a_compiler
def test_a_library_without_the_functions(caplog):
    with pytest.raises(build.NotBuilt, match="the library has no function"):
        build.registered(ANSWER)
    assert "steps run as scans" in "".join(lines(caplog))
    with pytest.raises(build.NotBuilt, match="the library has no function"):
        build.registered(ANSWER)
    assert len(caplog.records) == 1


REGISTERS = """
#if defined(__AVX512F__)
constexpr int bytes = 64;
#elif defined(__AVX__)
constexpr int bytes = 32;
#else
constexpr int bytes = 16;
#endif
extern "C" int answer() { return bytes; }
"""


@needs_a_compiler
def test_a_vector_is_as_long_as_the_registers_that_are_compiled_for():
    """A longer one would lie in memory: several times slower than a scan."""
    assert answer(REGISTERS) == processor.vector_bytes()


@pytest.mark.parametrize(
    ("said", "machine", "expected"),
    [
        ("flags : fma avx avx2 avx512f", "x86_64", 64),
        ("flags : fma avx avx2", "x86_64", 32),
        ("macOS x86_64 i386", "x86_64", 32),
        ("Features : fp asimd sve", "aarch64", 16),
        ("macOS arm64 arm", "arm64", 16),
    ],
)
def test_the_registers_of_processors(monkeypatch, said, machine, expected):
    monkeypatch.setattr(processor, "processor", lambda: said)
    monkeypatch.setattr(processor.platform, "machine", lambda: machine)
    assert processor.vector_bytes.__wrapped__() == expected


@needs_a_compiler
def test_several_threads_at_once():
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(answer())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [42] * 4


# --- whole programs ------------------------------------------------------------------

SMALL_RUN = """
import jax.numpy as jnp, lstm_jax as lj
params = lj.LSTMParams(jnp.ones((1, 8)), jnp.ones((2, 8)), jnp.ones(8))
for xs in (jnp.ones((3, 2, 1)), jnp.ones((3, 4, 1))):
    print(float(lj.unroll(lj.CELLS["lstm"], params, xs)[0].sum()))
"""


SWITCHED_ON = """
import os, sys, jax
print("switched on", file=sys.stderr)
os.environ["LSTM_JAX_NATIVE"] = "1"
jax.clear_caches()
"""


def start(program=SMALL_RUN, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "CXXFLAGS": "-O0", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_without_a_compiler_a_line_says_so_and_the_scan_runs(tmp_path):
    """And where no compiler is asked for, nothing is said."""
    both = SMALL_RUN + SWITCHED_ON + SMALL_RUN
    program = start(both, CXX="/nowhere/c++", LSTM_JAX_NATIVE="False")
    values, said = program.communicate()
    switched_on, line = said.splitlines()
    assert switched_on == "switched on"
    assert "steps run as scans" in line
    assert "/nowhere/c++" in line
    *expected, third, fourth = values.splitlines()
    assert [third, fourth] == expected
    assert not list(tmp_path.rglob("*.so"))


@needs_a_compiler
def test_several_processes_at_once(cache):
    programs = [start(LSTM_JAX_NATIVE="1") for _ in range(2)]
    (values, said), (others, _) = (p.communicate() for p in programs)
    assert values == others != ""
    assert said == ""
    assert len(list(cache.iterdir())) == 1
