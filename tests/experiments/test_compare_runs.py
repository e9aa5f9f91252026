"""Runs side by side: what the table says of finished, interrupted, unfinished ones."""

import json

import pytest

from experiments import compare_runs


def write(folder, config, rows, result=None):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    lines = [json.dumps({"kind": "evaluation", **row}) + "\n" for row in rows]
    (folder / "metrics.jsonl").write_text(
        '{"kind": "step", "loss": 1}\n' + "".join(lines)
    )
    if result:
        (folder / "result.json").write_text(json.dumps(result))


@pytest.fixture
def runs(tmp_path):
    """Three runs: one finished, one of two seeds and interrupted, one killed."""
    rows = [{"step": 10, "accuracy": 0.5}, {"step": 20, "accuracy": 0.75}]
    done = {"accuracy": 0.75, "steps": 20, "seconds": 3.4, "interrupted": None}
    write(tmp_path / "a" / "one", {"seed": 0, "size": 4}, rows, done)
    seeds = [
        {"step": 10, "seed": seed, "loss": loss} for seed, loss in ((0, 1.0), (1, 3.0))
    ]
    stopped = {"steps": 10, "seconds": 1.0, "interrupted": "SIGINT"}
    write(tmp_path / "b" / "one", {"seed": 0, "size": [4, 5]}, seeds, stopped)
    write(tmp_path / "b" / "two", {"seed": 0}, rows[:1])
    return tmp_path


def test_the_table(runs, capsys):
    out = runs / "out"
    given = [str(runs / "a"), str(runs / "b"), str(runs / "b" / "two")]
    assert compare_runs.main([*given, "--out", str(out)]) == 0
    text = (out / "table.md").read_text()
    assert capsys.readouterr().out == text
    head, _, *rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()
    ]
    assert head == ["run", "size", "accuracy", "loss", "steps", "time", "state"]
    assert rows == [
        ["a/one", "4", "0.7500", "", "20", "3 s", "finished"],
        ["b/one", "4 5", "", "2.0000 ± 1.4142", "10", "1 s", "SIGINT"],
        ["b/two", "None", "0.5000", "", "10", "", "unfinished"],
    ]
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_texts_that_differ_are_told(tmp_path):
    """And those that do not are not."""
    for name, sha256 in {"a": "0123456789", "b": "0123456789", "c": "abcdef"}.items():
        result = {"text_sha256": sha256, "interrupted": None}
        write(tmp_path / name, {}, [{"step": 1, "loss": 1.0}], result)
    runs = compare_runs.read_runs([tmp_path])
    assert "sha256" not in compare_runs.table(runs[:2])
    head, _, *rows = compare_runs.table(runs).splitlines()
    assert head.split("|")[2].strip() == "text sha256"
    assert [row.split("|")[2].strip() for row in rows] == [
        "01234567",
        "01234567",
        "abcdef",
    ]


def test_curves_are_means_over_seeds(runs):
    found = compare_runs.read_runs([runs])
    assert compare_runs.curves(found, "loss") == {"b/one": ([10], [2.0])}
    assert compare_runs.curves(found, "accuracy") == {
        "a/one": ([10, 20], [0.5, 0.75]),
        "b/two": ([10], [0.5]),
    }


def test_a_single_run_has_its_folders_name(runs):
    (found,) = compare_runs.read_runs([runs / "a" / "one"])
    assert found.name == "one"


def test_a_folder_without_runs(runs, capsys):
    (runs / "empty").mkdir()
    assert compare_runs.main([str(runs / "a"), str(runs / "empty")]) == 1
    assert "empty: there is no run here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", ""),
        ("result.json", '{"accuracy": 0.75'),
        ("result.json", "[]"),
        ("result.json", '{"accuracy": 0.75}'),
        ("result.json", '{"interrupted": null, "accuracy": "high"}'),
        ("result.json", '{"interrupted": null, "seconds": "long"}'),
        ("metrics.jsonl", '{"kind": "evaluation"}\n'),
        ("metrics.jsonl", '{"kind": "evaluation", "step": 1, "loss": "low"}\n'),
        ("metrics.jsonl", "{}\n3\n"),
    ],
)
def test_a_broken_run_is_left_out_and_named(runs, capsys, file, content):
    (runs / "a" / "one" / file).write_text(content)
    given = [str(runs / "a"), str(runs / "b"), "--out", str(runs / "out")]
    assert compare_runs.main(given) == 0
    said = capsys.readouterr()
    assert "left out: " in said.err
    assert f"a/one/{file}" in "".join(said.err.split())
    assert [line.split("|")[1].strip() for line in said.out.splitlines()[2:]] == [
        *("b/one", "b/two")
    ]
    assert compare_runs.main([str(runs / "a"), "--out", str(runs / "out")]) == 1
    assert "no run here can be read" in capsys.readouterr().err


def test_a_mean_has_its_deviation_beside_it(tmp_path):
    result = {"loss": 2.0, "loss_std": 0.5, "interrupted": None}
    write(tmp_path / "a", {}, [{"step": 1, "loss": 1.0}], result)
    assert "| 2.0000 ± 0.5000 |" in compare_runs.table(
        compare_runs.read_runs([tmp_path])
    )
