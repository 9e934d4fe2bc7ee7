from __future__ import annotations

import inspect

import pytest

from tijepa import errors


def _exceptions() -> dict[str, type[Exception]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    }


def test_all_lists_every_exception() -> None:
    assert sorted(_exceptions()) == errors.__all__


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name != "TijepaError"])
def test_every_exception_descends_from_tijepa_error_and_is_drawn_in_the_tree(name: str) -> None:
    assert issubclass(_exceptions()[name], errors.TijepaError)
    assert errors.__doc__ is not None
    assert f"── {name}" in errors.__doc__


def test_a_missing_extra_names_the_command_that_installs_it() -> None:
    error = errors.MissingExtraError("wandb", "track")
    assert str(error) == "wandb is not installed: pip install 'tijepa[track]'"
