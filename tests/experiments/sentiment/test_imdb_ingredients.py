"""The ingredients of the IMDB classifier: the comparison, without the training."""

import dataclasses
import io
from unittest import mock

import pytest
from rich.console import Console

from experiments.sentiment import PRESETS, Config, ingredients, training
from experiments.sentiment.ingredients import compare, table, variants
from experiments.training import Options, Records

CONSOLE = Console(file=io.StringIO())


def train(config, folder, options, console):
    """In place of a training: an accuracy that follows from the config."""
    accuracy = 0.8 + 0.01 * config.seed + 0.05 * config.bidirectional
    result = {"accuracy": accuracy, "interrupted": None}
    Records(folder).write("config", dataclasses.asdict(config))
    Records(folder).write("result", result)
    return result


def test_every_change_changes_one_thing_of_the_preset():
    for preset in PRESETS.values():
        base, *others = variants(preset).values()
        assert base == preset
        assert all(config != preset for config in others)
        assert len(set(others)) == len(others)
    named = {field for change in ingredients.CHANGES.values() for field in change}
    assert named <= {field.name for field in dataclasses.fields(Config)}
    assert "four networks" not in variants(PRESETS["best"])
    assert "words alone" not in variants(PRESETS["words"])


def test_all_are_trained_once_and_compared(tmp_path, capsys):
    trainer = mock.Mock(side_effect=train)
    with mock.patch.object(training, "train", trainer):
        for _ in range(2):  # `train` keeps what is finished
            assert compare("quick", 2, tmp_path, Options(), CONSOLE) is None
    assert trainer.call_count == 4 * len(variants(PRESETS["quick"]))
    found = (tmp_path / "results.md").read_text("utf-8")
    assert capsys.readouterr().out == 2 * found
    rows = {
        line.split("|")[1].strip(): line.split("|")[2:4] for line in found.splitlines()
    }
    assert rows["as it is"][0].strip() == "0.8050 ± 0.0071"
    assert rows["both directions"][1].strip() == "+5.00 ± 0.00"
    assert rows["GRU"][1].strip() == "+0.00 ± 0.00"


def test_a_difference_by_hand():
    """Seed by seed: Student's t at 0.975 with 2 degrees of freedom is 4.303."""
    text = table({"as it is": [0.80, 0.81, 0.82], "other": [0.82, 0.82, 0.82]})
    assert "+1.00 ± 2.48" in text.splitlines()[-1]


def test_a_signal_ends_it(tmp_path):
    with mock.patch.object(training, "train", return_value={"interrupted": "SIGINT"}):
        assert compare("quick", 2, tmp_path, Options(), CONSOLE) == "SIGINT"
    assert not list(tmp_path.iterdir())


def test_one_seed_is_refused(tmp_path):
    with pytest.raises(ValueError, match="seeds must be at least 2; got 1"):
        compare("quick", 1, tmp_path, Options(), CONSOLE)
