"""The benchmarks: every peer agrees, and tables say what was measured.

No test looks at a time.
"""

import io
import json
import os
import pickle
import re
import runpy
import signal
import struct
import sys
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import benchmarks.__main__
import benchmarks.epoch.__main__ as epoch_command
from benchmarks import (
    chunk_lengths,
    epoch,
    forward_mode,
    gpu,
    mutation_score,
    processes,
    report,
    worker,
)
from benchmarks.__main__ import SWEEPS, Config, choose_rows, folder_of, run
from benchmarks.command import told
from benchmarks.epoch.worker import EpochWorker
from benchmarks.measure import (
    Result,
    Settings,
    agreeing,
    beside_lstm,
    check_agreement,
    disagreement,
    limit_seconds,
    output_bytes,
    ratios,
    runs,
    weight_count,
)
from benchmarks.mutations import mutants
from benchmarks.peers import PEERS, Peer, load, missing
from benchmarks.problem import Outcome, Row, make_problem, reorder
from benchmarks.processes import Crew, WorkerError, WorkerProcess, environment_of
from benchmarks.report import costs, draw, render, write_report
from experiments.data import Bucket, Segment
from experiments.plots import TWELVE, Panel, cost_dots
from experiments.plots.costs import dot_places
from lstm_jax.engine import bptt
from lstm_jax.engine.chunks import scan_chunks
from lstm_jax.engine.runners import choose_runner

ROOT = Path(__file__).parents[2]
ROW = Row(T=5, B=3, D=2, H=4)


@pytest.fixture(autouse=True)
def _the_environment_stays_as_it_was(monkeypatch):
    """A peer of ours says in its own process whether compiled steps may run."""
    monkeypatch.setenv("LSTM_JAX_NATIVE", os.environ.get("LSTM_JAX_NATIVE", "1"))


def outcome(**changes) -> Outcome:
    generator = np.random.default_rng(1)
    shapes = ((5, 3, 4), (2, 16), (4, 16), (16,), (5, 3, 2))
    made = Outcome(*(generator.standard_normal(shape) for shape in shapes))
    return made._replace(**changes)


def result(allocator="default", **changes) -> Result:
    """A row that was never measured: flax is twice as slow as manual, torch even."""
    times = {"manual": [1.0, 2.0, 3.0], "flax": [2.0, 4.0, 6.0], "torch": [1.0, 2.0, 3]}
    names = list(times)
    made = Result(
        row=Row(T=100, B=32, D=128, H=128),
        allocator=allocator,
        gflops=1.0,
        seconds={"forward": times, "value_and_gradient": times},
        compile_seconds={"manual": 0.5, "flax": 0.25, "torch": None},
        temporary_bytes={"manual": 5_000_000, "flax": 10_000_000, "torch": None},
        peak_bytes=dict.fromkeys(names, 30_000_000),
        differences=dict.fromkeys(names, 0.0),
        failures={},
    )
    return made._replace(**changes)


# --- the peers -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference():
    """What automatic gradients give, by cell."""

    @cache
    def of(cell):
        problem = make_problem(ROW._replace(cell=cell))
        return load("automatic")(problem, "cpu").outcome()

    return of


AGREEING = [
    (name, cell)
    for name, peer in PEERS.items()
    for cell in (("lstm", "gru_before") if peer.ours else peer.cells)
    if name != "automatic"
]


@pytest.mark.jax_defaults
@pytest.mark.filterwarnings("default")  # other libraries' own
@pytest.mark.parametrize(("name", "cell"), AGREEING)
def test_every_peer_agrees_on_outputs_and_gradients(name, cell, reference):
    if why := missing(PEERS[name], "cpu"):
        pytest.skip(why)
    built = load(name)(make_problem(ROW._replace(cell=cell)), "cpu")
    assert check_agreement(built.outcome(), reference(cell), "float32") < 2e-6
    built.forward()
    built.value_and_gradient()
    assert (built.temporary_bytes is None) == (name == "torch")
    assert (built.compile_seconds is None) == (name == "torch")


@pytest.mark.filterwarnings("default")  # other libraries' own
@pytest.mark.parametrize("name", ["flax", "torch"])
def test_nothing_is_rounded_in_float64(name):
    if why := missing(PEERS[name], "cpu"):
        pytest.skip(why)
    problem = make_problem(ROW._replace(dtype="float64"))
    with jax.numpy_dtype_promotion("standard"):
        found, expected = (
            load(n)(problem, "cpu").outcome() for n in (name, "automatic")
        )
    assert check_agreement(found, expected, "float64") < 1e-13


@pytest.mark.jax_defaults
def test_the_layout_of_cudnn_is_the_one_that_jax_documents():
    from jax.experimental import rnn

    from benchmarks.peers.cudnn_lstm import pack, unpack

    problem = make_problem(ROW)
    packed = pack(problem)
    wx, wh, bx, bh = rnn.unpack_lstm_weights(packed, ROW.D, ROW.H, 1, False)
    np.testing.assert_array_equal(wx[0].T, reorder(problem.Wx, "ifog", "ifgo"))
    np.testing.assert_array_equal(wh[0].T, reorder(problem.Wh, "ifog", "ifgo"))
    np.testing.assert_array_equal(bx[0], reorder(problem.b, "ifog", "ifgo"))
    assert not np.any(bh[0])
    for back, sent in zip(unpack(packed, ROW.D, ROW.H), problem[1:4], strict=True):
        np.testing.assert_array_equal(back, sent)


def test_reordered_blocks_come_back():
    blocks = np.arange(8.0)
    np.testing.assert_array_equal(
        reorder(blocks, "ifog", "igfo"), [0, 1, 6, 7, 2, 3, 4, 5]
    )
    np.testing.assert_array_equal(
        reorder(reorder(blocks, "ifog", "igfo"), "igfo", "ifog"), blocks
    )


def test_a_peer_that_is_not_installed_is_left_out_and_says_so(monkeypatch):
    monkeypatch.setitem(
        PEERS, "flax", PEERS["flax"]._replace(packages=("no_such_one",))
    )
    assert missing(PEERS["flax"], "cpu") == "no_such_one not installed"
    assert missing(PEERS["manual"], "cpu") is None
    assert missing(PEERS["cudnn"], "cpu") == "needs --device gpu"


# --- agreement -----------------------------------------------------------------------


@pytest.mark.parametrize("field", Outcome._fields)
def test_a_wrong_array_is_named(field):
    right = outcome()
    wrong = right._replace(**{field: getattr(right, field) * 1.01})
    assert disagreement(wrong, right) == (pytest.approx(0.01), field)
    with pytest.raises(ValueError, match=rf"{field} differs from manual's by 1\."):
        check_agreement(wrong, right, "float32")
    assert check_agreement(wrong, right, "bfloat16") == pytest.approx(0.01)


def test_what_cannot_be_compared_is_an_error():
    right = outcome()
    with pytest.raises(ValueError, match=r"db: expected the shape \(16,\); got \(8,\)"):
        disagreement(right._replace(db=right.db[:8]), right)
    with pytest.raises(ValueError, match="ys is not finite"):
        disagreement(right._replace(ys=right.ys * np.nan), right)


@pytest.mark.parametrize("name", ["flax", "automatic"])
def test_a_peer_that_disagrees_leaves_and_ours_stops_the_run(name):
    workers = {who: Scripted() for who in ("manual", name, "torch")}
    crew = Crew(workers, "manual")
    right = outcome()
    outcomes = {"manual": right, name: right._replace(db=2 * right.db), "torch": right}
    told = r"db differs from manual's by 1\.0e\+00 of its largest value"
    if PEERS[name].ours:
        with pytest.raises(ValueError, match=f"automatic disagrees: {told}"):
            agreeing(crew, outcomes, "float32")
    else:
        assert agreeing(crew, outcomes, "float32") == {"manual": 0, "torch": 0}
        assert list(crew.workers) == ["manual", "torch"]
        assert list(crew.failures) == ["flax"]
        assert re.match(f"disagrees: {told}", crew.failures["flax"])


@pytest.mark.parametrize(
    ("changes", "device", "expected"),
    [
        ({}, "cpu", {"manual", "manual, scan", "flax"}),
        ({"dtype": "float64"}, "cpu", {"manual", "manual, scan", "flax"}),
        ({"dtype": "bfloat16"}, "cpu", {"manual", "manual, scan", "flax"}),
        ({}, "gpu", {"manual", "flax"}),
        ({"cell": "gru"}, "cpu", {"manual", "manual, scan", "flax"}),
        ({"cell": "slstm"}, "cpu", {"manual", "manual, scan"}),
        ({"cell": "gru_before"}, "cpu", {"manual"}),
    ],
)
def test_a_peer_runs_where_it_has_something_of_its_own(changes, device, expected):
    row = ROW._replace(**changes)
    names = ("manual", "manual, scan", "flax")
    assert {name for name in names if runs(name, row, device)} == expected


# --- figures -------------------------------------------------------------------------


def test_ratios_are_taken_within_rounds():
    times = {"manual": [1.0, 10.0, 2.0], "flax": [2.0, 20.0, 6.0]}
    made = result(seconds={"forward": times})
    assert ratios(made, "forward", "flax") == (2.0, 2.0, 2.5)
    assert ratios(made, "forward", "manual") == (1.0, 1.0, 1.0)


def test_the_limit_is_that_of_the_products():
    flops = 100 * 32 * 4 * 128 * (128 + 128) * 2
    assert limit_seconds(result(), "forward") == pytest.approx(flops / 1e9)
    assert limit_seconds(result(), "value_and_gradient") == pytest.approx(
        3 * flops / 1e9
    )


@pytest.mark.parametrize(
    ("cell", "weights", "outputs"),
    [("lstm", 4 * 4 * (2 + 4), 4), ("gru_before", 3 * 4 * (2 + 4), 4)],
)
def test_sizes_of_any_cell(cell, weights, outputs):
    row = ROW._replace(cell=cell)
    assert weight_count(row) == weights
    assert output_bytes(row) == 5 * 3 * outputs * 4


def test_another_cell_stands_beside_our_lstm():
    """Round by round; a GRU has three quarters of the LSTM's weights."""
    gru = Row(T=100, B=32, D=128, H=128, cell="gru")
    made = result(row=gru, lstm_seconds=[1.0, 4.0, 6.0])
    assert beside_lstm(made).median == 0.5
    assert beside_lstm(result()) is None
    text = render([made], {}, {}, {})
    assert "| manual / our LSTM | the same a multiply-add |" in text
    assert "| 0.50 | 0.67 |" in text


def test_the_tables():
    results = [result(), result("kept")]
    left_out = {"keras": "keras not installed"}
    text = render(results, {"device": "cpu"}, left_out, {"default": "rows.png"})
    assert "- left out: keras (keras not installed)" in text
    assert "![costs](rows.png)" in text
    row = "| T=100 B=32 D=128 H=128 |"
    assert f"{row} 2.00e+03 ms | 1.26 | 2.00 (flax) | 1.00 | 0.50 (flax) |" in text
    assert "| **median** |  | **1.26** | **2.00** | **1.00** | **0.50** |" in text
    assert f"{row} 2.52e+03 | 2e+03 | 4e+03 · 2.00 (2.00–2.00) | 2e+03 · 1.00" in text
    assert f"{row} 1.64 | 5 · 30 | 10 · 30 | – · 30 |" in text
    assert f"{row} 0.50 | 0.25 | – |" in text
    assert text.count("## Allocator") == 2


def test_a_sweep_over_cells_leaves_peers_blank_where_they_know_none():
    own = {"manual": [1.0]}
    other = result(
        row=ROW._replace(cell="mgu"),
        seconds={"forward": own, "value_and_gradient": own},
        compile_seconds={"manual": 0.5},
        temporary_bytes={"manual": 1_000_000},
        peak_bytes={"manual": None},
        differences={"manual": 0.0},
        lstm_seconds=[2.0],
    )
    results = [result(), other]
    times, _, memory = costs(results, "cell")
    assert times.curves["flax"] == [4000.0, None]
    assert memory.curves["manual"] == [5.0, 1.0]
    text = render(results, {}, {}, {})
    row = "| T=5 B=3 D=2 H=4 mgu |"
    assert f"{row} 1.00e+03 ms | 0.00 | – | – | 0.50 | 1.00 | – |" in text
    assert f"{row} 0.00432 | 1e+03 | – | – |" in text
    assert f"{row} 0.00024 | 1 · – | – | – |" in text


def test_costs_over_the_number_of_steps_have_a_line_of_slope_1():
    panels = costs([result()], "T")
    assert [panel.linear for panel in panels] == [True, False, True]
    assert not any(panel.linear for panel in costs([result()], "H"))


def test_a_row_of_dots_is_as_high_as_it_has_lines():
    curves = {"a": [1.0, 2.0, None], "b": [3.0, None, None], "c": [None, 1.0, 0.0]}
    panels = [Panel("time", curves), Panel("memory", {"d": [1.0, None, None]})]
    heights, places = dot_places(panels)
    assert list(heights) == [5, 4, 2]
    assert [place[0] for name, place in places.items() if name != "c"] == [
        1.5,
        2.5,
        3.5,
    ]
    assert [places[name][1] for name in "ac"] == [1.5, 2.5]


def test_the_picture_of_all_cells_fits_on_a_page(tmp_path):
    results = []
    for cell in SWEEPS["cell"].values:
        row = ROW._replace(cell=cell)
        own = [name for name in PEERS if runs(name, row, "cpu")]
        figures = {"forward": {}, "value_and_gradient": {name: [1.0] for name in own}}
        results.append(
            result(
                row=row,
                seconds=figures,
                compile_seconds=dict.fromkeys(own, 1.0),
                temporary_bytes=dict.fromkeys(own, 1),
                differences=dict.fromkeys(own, 0.0),
            )
        )
    draw(tmp_path / "cells.png", results, Settings(), "cell")
    width, height = struct.unpack(">II", (tmp_path / "cells.png").read_bytes()[16:24])
    assert height < width


@pytest.mark.parametrize(("threads", "words"), [(1, "1 thread,"), (2, "2 threads,")])
def test_the_title_counts_threads(threads, words, monkeypatch, tmp_path):
    titles = []
    monkeypatch.setattr(report, "cost_dots", lambda _, title, *__: titles.append(title))
    draw(tmp_path / "rows.png", [result()], Settings(threads=threads), None)
    assert titles == [f"{words} allocator: default"]


def test_every_line_has_a_colour_and_a_marker_of_its_own(tmp_path):
    lines = [*PEERS, "limit"]
    styles = TWELVE[: len(lines)]
    for own in zip(*styles, strict=True):
        assert len(set(own)) == len(lines)
    panel = Panel("time, s", {"a": [1.0]})
    with pytest.raises(ValueError, match="expected at most 12 lines"):
        cost_dots(tmp_path / "x.png", "", ["row"], [panel], ["a"] * 13)
    assert not list(tmp_path.iterdir())


def test_the_report_is_written_with_its_record(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.report.vector_bytes", lambda: 48)
    folder = tmp_path / "deep" / "run"
    swept = [result(row=ROW._replace(T=steps)) for steps in (64, 128)]
    text = write_report(folder, swept, Settings(), {"torch": "absent"}, "T")
    assert (folder / "README.md").read_text("utf-8") == text
    assert (folder / "T-default.png").read_bytes()[:4] == b"\x89PNG"
    record = json.loads((folder / "record.json").read_text("utf-8"))
    assert "vectors of 48 bytes" in record["machine"]["processor"]
    assert record["axis"] == "T"
    assert record["left_out"] == {"torch": "absent"}
    assert [r["row"]["T"] for r in record["results"]] == [64, 128]
    assert record["results"][0]["seconds"]["forward"]["flax"] == [2.0, 4.0, 6.0]


# --- the command ---------------------------------------------------------------------


def test_the_quick_run(tmp_path, own_cell):
    """Processes, agreement, rounds and report, at tiny sizes; of somebody's cell."""
    peers, cell, folder = ("manual", "automatic"), f"{own_cell}:NAME", tmp_path / "run"
    config = Config(cell=cell, folder=folder, peers=peers, quick=True, threads=1)
    text = run(config)
    record = json.loads((folder / "record.json").read_text("utf-8"))
    (made,) = record["results"]
    assert list(made["differences"]) == list(peers)
    assert made["differences"]["automatic"] < 1e-5
    assert made["gflops"] > 0
    for call in ("forward", "value_and_gradient"):
        assert [len(made["seconds"][call][name]) for name in peers] == [2, 2]
    assert len(made["lstm_seconds"]) == 2
    assert "| T=7 B=3 D=4 H=5 name |" in text
    assert str(own_cell) not in text + json.dumps(record)
    assert made["row"]["cell"] == "name"
    assert made["row"]["cell_file"]
    assert folder_of(replace(config, folder=None)) == Path("runs/bench/quick-name")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"peers": ("manual", "numpy")}, "peers must be some of .*got 'numpy'"),
        ({"peers": ("automatic",)}, 'peers must include "manual"'),
        ({"peers": ("manual", "cudnn")}, "'cudnn' cannot run: needs --device gpu"),
        ({"rounds": 0}, "rounds must be at least 1; got 0"),
        ({"threads": 0}, "threads must be at least 1; got 0"),
        ({"cell": "gruu"}, "cell must be one of .*; got 'gruu'"),
    ],
)
def test_what_cannot_be_run_is_refused(changes, expected, tmp_path):
    with pytest.raises(ValueError, match=expected):
        run(Config(folder=tmp_path, **changes))
    assert not list(tmp_path.iterdir())


def test_a_cell_without_a_backward_is_refused(own_cell):
    text = own_cell.read_text("utf-8").replace("    backward=backward,\n", "")
    own_cell.write_text(text, "utf-8")
    with pytest.raises(ValueError, match="name has no hand-derived backward"):
        run(Config(cell=f"{own_cell}:NAME"))


def test_the_other_commands_take_somebodys_cell(own_cell, capsys, monkeypatch):
    cells = (f"{own_cell}:NAME",)
    first = lambda cell: islice(mutants(cell), 1)  # noqa: E731
    monkeypatch.setattr(mutation_score, "mutants", first)
    mutation_score.main(mutation_score.Config(cells))
    forward_mode.main(forward_mode.Config(cells, errors=False, shape=(3, 1, 2, 3)))
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| name |") for line in lines) == 2


def test_a_worker_that_fails_says_why_and_goes_on():
    with WorkerProcess(environment_of("float32", 1, "default", "cpu")) as worker:
        for _ in range(2):
            with pytest.raises(WorkerError, match="KeyError: 'nobody'"):
                worker.ask("load", "nobody")
    assert worker.process.returncode == 0
    assert_closed(worker)


def assert_closed(worker: WorkerProcess) -> None:
    for file in (worker.requests, worker.answers, worker.said):
        assert file.closed


def test_a_request_that_nobody_reads_is_no_error_at_the_end():
    """What is left in the buffer meets a broken pipe when it is closed."""
    with WorkerProcess(environment_of("float32", 1, "default", "cpu")) as worker:
        worker.process.kill()
        worker.process.wait()
        worker.requests.write(b"never sent")
    assert_closed(worker)


def test_a_worker_dies_with_an_error_of_its_parent():
    class ParentError(Exception):
        pass

    worker = WorkerProcess(environment_of("float32", 1, "default", "cpu"))
    worker.process.send_signal(signal.SIGSTOP)
    worker.send("load", "manual")
    with pytest.raises(ParentError), worker:
        raise ParentError
    assert worker.process.returncode == -signal.SIGKILL
    assert_closed(worker)


def test_a_worker_that_dies_before_or_while_it_is_asked_says_so():
    environment = environment_of("float32", 1, "default", "cpu")
    died = pytest.raises(WorkerError, match="the worker ended with status -9")
    with WorkerProcess(environment) as worker:
        worker.process.kill()
        worker.process.wait()
        with died:
            worker.ask("load", "manual")
    with WorkerProcess(environment) as worker:
        worker.process.send_signal(signal.SIGSTOP)
        worker.send("load", "manual")
        worker.process.kill()
        with died:
            worker.receive()
    assert_closed(worker)


class Failing:
    def run(self):
        error = RuntimeError("what went wrong\nand more of it")
        error.add_note("a note")
        raise error


def test_the_reason_of_a_failure_is_the_line_that_tells(monkeypatch):
    sent = io.BytesIO()
    monkeypatch.setattr(worker.os, "fdopen", lambda *_: sent)
    monkeypatch.setattr(worker.os, "dup2", lambda *_: None)
    asked = io.BytesIO(pickle.dumps(("run", ())))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=asked))
    worker.serve(Failing())
    succeeded, (reason, trace) = pickle.loads(sent.getvalue())
    assert not succeeded
    assert reason == "RuntimeError: what went wrong"
    assert "and more of it\na note" in trace


class Scripted:
    """Stands in for a worker's process: answers, or fails in what it is told to."""

    def __init__(self, fails_in: str | None = None) -> None:
        self.fails_in = fails_in
        self.process = self
        self.killed = False

    def kill(self) -> None:
        self.killed = True

    def ask(self, method, *arguments):
        if method == self.fails_in:
            raise WorkerError("out of memory", "a long story")
        return method

    def send(self, method, *arguments):
        pass

    def receive(self):
        return self.ask("load")


@pytest.mark.parametrize("method", ["load", "time"])
def test_a_library_that_fails_leaves_and_the_others_go_on(method):
    workers = {"manual": Scripted(), "flax": Scripted(method), "haiku": Scripted()}
    failing = workers["flax"]
    crew = Crew(workers, "manual")
    crew.load()
    assert crew.ask_all("time") == {"manual": "time", "haiku": "time"}
    assert crew.failures == {"flax": "out of memory"}
    assert failing.killed


def test_the_reference_must_not_fail():
    crew = Crew({"manual": Scripted("time"), "flax": Scripted()}, "manual")
    with pytest.raises(WorkerError, match="out of memory"):
        crew.ask_all("time")


def test_a_worker_that_takes_too_long_is_ended(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 0.2)
    with WorkerProcess(environment_of("float32", 1, "default", "cpu")) as worker:
        worker.process.send_signal(signal.SIGSTOP)
        with pytest.raises(WorkerError, match=r"no answer within 0\.2 s"):
            worker.ask("load", "manual")


def test_failures_are_reported():
    failed = result(failures={"haiku": "out of memory"})
    assert "- failed: haiku at T=100 B=32 D=128 H=128 (out of memory)" in render(
        [failed], {}, {}, {}
    )


def test_rows_measured_before_an_error_are_reported(monkeypatch, tmp_path):
    found = iter([result(row=ROW._replace(H=32))])
    monkeypatch.setattr(benchmarks.__main__, "measure", lambda *_: next(found))
    with pytest.raises(StopIteration):
        run(Config(sweep="H", folder=tmp_path))
    record = json.loads((tmp_path / "record.json").read_text("utf-8"))
    assert [r["row"]["H"] for r in record["results"]] == [32]


@pytest.mark.parametrize("axis", SWEEPS)
def test_every_sweep_varies_one_field_and_is_drawn(axis, tmp_path):
    rows = choose_rows(Config(sweep=axis))
    assert [getattr(row, axis) for row in rows] == list(SWEEPS[axis].values)
    assert len({row._replace(**{axis: None}) for row in rows}) == 1
    results = [result(row=row) for row in rows[:2]]
    draw(tmp_path / "sweep.png", results, Settings(), axis)
    assert (tmp_path / "sweep.png").read_bytes()[:4] == b"\x89PNG"


def test_the_tables_of_a_gpu():
    """Ratios of calls, and of the LSTM's time a block."""
    own, other = gpu.Seconds(2e-3, 1e-3), gpu.Seconds(6e-3, 4e-3)
    found = [
        gpu.Measured("lstm", "T=1", own, other, 4),
        gpu.Measured("gru", "T=1", own, other, 3),
    ]
    *_, line, _, medians, _ = gpu.render_cudnn(found)
    assert line == "| gru | T=1 | 6.00 | 2.00 | 3.0 | 4.0 |"
    assert medians == "Medians of torch / ours: lstm: 3.0, gru: 3.0"
    *_, line, _ = gpu.render_scans(found)
    assert line == "| gru | T=1 | 4.00 | 1.00 | 4.0 | 1.33 |"
    *_, line, _ = gpu.render_scans(found[1:])  # no LSTM beside it
    assert line == "| gru | T=1 | 4.00 | 1.00 | 4.0 |  |"
    assert gpu.render_scans([]) == []


COMMANDS = ("__main__", "epoch/__main__", "long_sequences", "chunk_lengths")
COMMANDS = (*COMMANDS, "mutation_score", "gpu")


def execute(command, monkeypatch, *arguments):
    """What `python -m` does; how the program ended."""
    file = ROOT / "benchmarks" / f"{command}.py"
    monkeypatch.setattr(sys, "argv", [str(file), *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(file), run_name="__main__")
    return ended.value.code


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help(command, monkeypatch, capsys):
    assert execute(command, monkeypatch, "--help") == 0
    assert "usage: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "arguments", "expected"),
    [
        ("__main__", "--rounds 0", "rounds must be at least 1; got 0"),
        ("__main__", "--peers numpy", "peers must be some of .*got 'numpy'"),
        ("gpu", "--rounds 1", "there is no GPU"),
        ("epoch/__main__", "--peers numpy", "peers must be some of .*got 'numpy'"),
        ("epoch/__main__", "--peers flax", 'peers must include "manual"'),
        ("epoch/__main__", "--threads 0", "threads must be at least 1; got 0"),
        ("epoch/__main__", "--reviews 0", "reviews must be at least 1; got 0"),
        ("mutation_score", "--cells gruu", "cell must be one of .*got 'gruu'"),
    ],
)
def test_bad_input_is_told_in_a_line(command, arguments, expected, monkeypatch):
    said = execute(command, monkeypatch, *arguments.split())
    assert re.fullmatch(f"error: {expected}.*", said)


def test_what_ends_a_command(capsys):
    with pytest.raises(SystemExit, match=r"^error: no such folder$"), told():
        raise OSError("no such folder")
    with pytest.raises(SystemExit) as ended, told():
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr().err == "stopped\n"
    with pytest.raises(KeyError), told():
        raise KeyError  # a mistake of ours: all of it is shown


def test_chunk_lengths_are_compared(monkeypatch, capsys):
    monkeypatch.setattr(chunk_lengths, "ROWS", (Row(T=20, B=2, D=3, H=4),))
    monkeypatch.setattr(chunk_lengths, "ROUNDS", 1)
    lengths, runners = [], set()

    def chosen(*arguments):
        found = choose_runner(*arguments)
        runners.add(found[0].name)
        return found

    monkeypatch.setattr(bptt, "choose_runner", chosen)

    def spy(*arguments, **options):
        lengths.append(arguments[4])
        return scan_chunks(*arguments, **options)

    monkeypatch.setattr(bptt, "scan_chunks", spy)
    chunk_lengths.main()
    lines = capsys.readouterr().out.splitlines()
    names = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert names[2:] == ["chosen", "5", "10", "20"]
    assert {5, 10, 20} <= {*lengths}
    assert runners == {"scan"}


# --- the epoch -----------------------------------------------------------------------


def tiny_epoch(reviews):
    """Three segments of ten batches of two random reviews of up to six words."""
    generator = np.random.default_rng(reviews)
    count, steps = 20, 6
    bucket = Bucket(
        tokens=generator.integers(2, 30, (count, steps), np.int32),
        lengths=generator.integers(1, steps + 1, count, np.int32),
        labels=generator.integers(0, 2, count, np.int32),
        rows=np.arange(count, dtype=np.int32),
    )
    rows = [generator.permutation(count).reshape(10, 2) for _ in range(3)]
    return epoch.Epoch(
        weights=epoch.draw_weights(30),
        train=(bucket,),
        validation=(bucket,),
        segments=tuple(Segment(0, own.astype(np.int32)) for own in rows),
    )


class InThisProcess(EpochWorker):
    """A worker without a process of its own."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ask(self, method, *arguments):
        return getattr(self, method)(*arguments)


class Drifting(InThisProcess):
    """No model: losses of 0.7, flax's a little more from its second segment on."""

    def build(self, name, epoch, device):
        self.name = name
        assert len(epoch.segments) == 3

    def train(self, number):
        off = self.name == "flax" and number >= self.first
        return 1.0, np.full(10, 0.7 + 0.002 * off)

    def accuracy(self):
        return 0.5


@pytest.fixture(autouse=True)
def no_reviews(monkeypatch):
    monkeypatch.setattr(epoch_command, "make_epoch", tiny_epoch)


@pytest.mark.jax_defaults
@pytest.mark.filterwarnings("default")  # other libraries' own
@pytest.mark.parametrize(
    "names",
    [("manual", "flax", "torch"), pytest.param(epoch.TRAINERS, marks=pytest.mark.slow)],
    ids=["quick", "all"],
)
def test_an_epoch_in_every_library(names, monkeypatch, tmp_path):
    trainers = {name: epoch.TRAINERS[name] for name in names}
    absent = {"absent": Peer("absent", ("no_such_one",))}
    monkeypatch.setattr(epoch_command, "TRAINERS", trainers | absent)
    monkeypatch.setattr(epoch_command, "WorkerProcess", InThisProcess)
    text = epoch_command.run(epoch_command.Config(reviews=20, folder=tmp_path))
    assert "absent was left out: no_such_one not installed." in text
    assert (tmp_path / "README.md").read_text("utf-8") == text
    record = json.loads((tmp_path / "record.json").read_text("utf-8"))
    assert record["buckets"] == [0, 0, 0]
    for name, peer in trainers.items():
        assert (name in record) == (missing(peer, "cpu") is None)
        assert (f"| {name} |" in text) == (name in record)
    assert {"manual", "flax"} <= set(record)
    own = np.array(record["manual"]["losses"])
    assert len(own) == 30
    assert own[-5:].mean() < own[:5].mean()  # it learns
    for name in set(record) & set(trainers):
        np.testing.assert_allclose(record[name]["losses"], own, atol=1e-4)


@pytest.mark.parametrize("first", [0, 1])
def test_an_epoch_with_other_losses_is_refused(first, monkeypatch, tmp_path):
    monkeypatch.setattr(Drifting, "first", first, raising=False)
    monkeypatch.setattr(epoch_command, "WorkerProcess", Drifting)
    config = epoch_command.Config(peers=("manual", "flax"), folder=tmp_path)
    with pytest.raises(ValueError, match=r"flax and manual disagree: .* by 2\.0e-03"):
        epoch_command.run(config)
    assert not list(tmp_path.iterdir())


def test_later_losses_of_an_epoch_may_drift(monkeypatch, tmp_path):
    monkeypatch.setattr(Drifting, "first", 2, raising=False)
    monkeypatch.setattr(epoch_command, "WorkerProcess", Drifting)
    config = epoch_command.Config(peers=("manual", "flax"), folder=tmp_path)
    assert "| flax | 3.0 |" in epoch_command.run(config)


def test_a_loss_that_is_not_a_number_is_refused():
    with pytest.raises(ValueError, match="flax and manual disagree"):
        epoch_command.check_agreement({"manual": [0.7], "flax": [float("nan")]})


def test_too_few_reviews_are_refused(monkeypatch):
    tiny = tiny_epoch(20)
    data = SimpleNamespace(train=tiny.train, evaluated={"validation": (None, ())})
    monkeypatch.setattr(epoch, "load", lambda config: data)
    with pytest.raises(ValueError, match=r"reviews must be enough for two .* got 20"):
        epoch.make_epoch(20)
