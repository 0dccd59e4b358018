"""Step lists, noise levels and start noise of diffusion inversion."""

from itertools import pairwise

import pytest
import torch
from adaptivesr.sampling.inversion import (
    TRAINED_STARTS,
    StartNoise,
    choose_taus,
    indices,
    inversion_sigmas,
    parse_starts,
    parse_taus,
    preset_taus,
)


def test_up_to_five_steps_are_the_published_lists():
    assert [preset_taus(n) for n in range(1, 6)] == [
        (200,), (200, 100), (200, 100, 50), (200, 150, 100, 50), (250, 200, 150, 100, 50),
    ]  # fmt: skip


def test_more_steps_are_spread_from_250_with_the_rounding_of_float64():
    assert preset_taus(6) == (250, 208, 166, 125, 83, 41)
    assert preset_taus(8) == (250, 218, 187, 156, 125, 93, 62, 31)
    assert preset_taus(30)[15] == 124  # exact arithmetic would give 125
    for steps in range(6, 251):
        taus = preset_taus(steps)
        assert len(taus) == steps and taus[0] == 250 and taus[-1] >= 1
        assert all(a > b for a, b in pairwise(taus))


@pytest.mark.parametrize("steps", [0, -1, 251])
def test_impossible_numbers_of_steps_are_a_sentence(steps):
    with pytest.raises(ValueError, match="expected 1 to 250"):
        preset_taus(steps)


@pytest.mark.parametrize("start", TRAINED_STARTS)
def test_only_the_first_step_must_be_a_trained_one(start):
    assert parse_taus(f"{start}, 37;5\n 1") == (start, 37, 5, 1)


def test_a_list_of_the_users_comes_before_the_number_of_steps():
    assert choose_taus(3, "  ") == preset_taus(3)
    assert choose_taus(3, "100") == (100,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("120, 60", "starts at 120: expected one of 250, 200, 150, 100"),
        ("200, 200", "each below the one before"),
        ("100, 150", "each below"),
        ("200, 0", "numbers of 1 or more"),
        ("200, a", "whole numbers"),
        ("200.5", "whole numbers"),
        ("-200", "whole numbers"),
        (",", "whole numbers"),
    ],
)
def test_bad_lists_are_a_sentence(text, words):
    with pytest.raises(ValueError, match=words):
        parse_taus(text)


def test_levels_are_the_tables_at_the_indices_and_then_zero():
    table = torch.arange(1000.0)
    assert indices((250, 200, 1)) == (249, 199, 0)
    assert inversion_sigmas((250, 200, 1), table).tolist() == [249.0, 199.0, 0.0, 0.0]


def test_noise_is_one_field_of_the_seed_for_every_image():
    noise = StartNoise(torch.zeros(2, 4, 6, 5), torch.ones(2, 4, 6, 5))
    drawn = noise.draw(7)
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn, noise.draw(7))
    assert not torch.equal(drawn, noise.draw(8))
    mean = torch.full((1, 4, 6, 5), 2.0)
    shifted = StartNoise(mean, torch.full_like(mean, 3.0)).draw(7, strength=0.5)
    torch.testing.assert_close(shifted, (2 + 3 * drawn[:1]) * 0.5)
    assert not StartNoise(mean, mean).draw(7, strength=0.0).any()


def test_a_predictor_of_other_start_steps_starts_at_its_own():
    assert preset_taus(3, (200, 100)) == (200, 100, 50)  # the published list starts at a trained step
    assert preset_taus(3, (240, 90)) == (240, 160, 80)
    assert preset_taus(5, (200, 80)) == (200, 160, 120, 80, 40)
    assert choose_taus(1, "80, 10", (200, 80)) == (80, 10)
    with pytest.raises(ValueError, match="starts at 100: expected one of 200, 80"):
        parse_taus("100", (200, 80))
    with pytest.raises(ValueError, match="expected 1 to 90"):
        preset_taus(91, (90,))


def test_start_steps_are_read_as_users_and_files_write_them():
    assert parse_starts("250, 200;5 1") == (250, 200, 5, 1)
    for text in ("", "a", "0", "1001", "-5", "2.5"):
        with pytest.raises(ValueError, match="expected whole numbers of 1 to 1000"):
            parse_starts(text)
