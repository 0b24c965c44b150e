"""Three kinds of network learn to read digits by the same loop."""

from __future__ import annotations

import pytest

from examples import digits_layers


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("name", "least"), [("convolutional", 0.94), ("lstm", 0.7), ("transformer", 0.8)])
def test_each_network_learns(name: str, least: float, compiled: bool) -> None:
    outcome = digits_layers.train(name, epochs=5, compiled=compiled)
    assert outcome.losses[-1] < 0.6 * outcome.losses[0]
    assert outcome.accuracy > least


def test_the_table_has_what_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    (outcome,) = digits_layers.main(["--networks", "lstm", "--epochs", "1"])
    printed = capsys.readouterr().out
    assert "lstm" in printed
    assert f"{outcome.accuracy:.2%}" in printed
    assert "transformer" not in printed
