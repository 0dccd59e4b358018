import math

import pytest
import torch
from adaptivesr.imaging.detail import sharpness
from adaptivesr.imaging.metrics.gain_measures import latent_measures
from adaptivesr.imaging.tiles import grid
from adaptivesr.models.gain_regressor import Mmle, MmleConfig
from adaptivesr.sampling.adaptive import gain
from adaptivesr.sampling.adaptive.observers import BackEnd, MetricGains, ProxyGains, RegressorGains
from adaptivesr.sampling.adaptive.types import crop_rows, rows_of

TIMESTEPS = (900.0, 600.0, 400.0, 200.0)
REGIONS = grid(12, 16, 8, 2)
ROWS = rows_of(REGIONS, 2)
METRICS = gain.chosen(gain.LATENT_METRICS, ["psnr", "nlpd", "sharpness"])


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


REFERENCE = noise(0, 2, 4, 12, 16)


def predictions(call):
    """x0 (N, C, h, w) of all rows, nearer to the reference from call to call."""
    return crop_rows(REFERENCE, ROWS) + noise(call, len(ROWS), 4, 8, 8) / (1 + call)


def metric_gains():
    return MetricGains(BackEnd(REFERENCE, latent_measures()), METRICS, TIMESTEPS)


def regressor_gains():
    torch.manual_seed(0)
    network = Mmle(MmleConfig(widths=(16,) * 7, hidden=16)).eval()
    return RegressorGains(network, REFERENCE, gain.PAPER_METRICS, TIMESTEPS)


def proxy_gains():
    return ProxyGains(REFERENCE, TIMESTEPS)


OBSERVERS = [metric_gains, regressor_gains, proxy_gains]


@pytest.mark.parametrize("make", OBSERVERS)
def test_the_first_call_has_no_gain_and_quality_counts_when_both_calls_are_late(make):
    observer = make()
    for call in range(4):
        found = observer(ROWS, predictions(call), [call] * len(ROWS))
        assert len(found) == len(ROWS)
        for gains in found:
            assert ("fr" in gains) is (call > 0) and ("nr" in gains) is (call == 3)
            assert all(-1.0 <= value <= 1.0 for name, value in gains.items() if name != "change")


@pytest.mark.parametrize("make", OBSERVERS)
def test_a_row_does_not_notice_the_others(make):
    together, alone = make(), make()
    for call in range(4):
        levels = [min(3, call + i % 2) for i in range(len(ROWS))]  # rows at levels of their own
        all_at_once = together(ROWS, predictions(call), levels)
        for i in reversed(range(len(ROWS))):
            one = alone(ROWS[i : i + 1], predictions(call)[i : i + 1], levels[i : i + 1])
            assert one[0] == pytest.approx(all_at_once[i], abs=1e-5)


def test_metric_gains_are_the_change_of_the_normalised_metric():
    observer = metric_gains()
    first, second = predictions(0), predictions(1)
    observer(ROWS, first, [0] * len(ROWS))
    found = observer(ROWS, second, [1] * len(ROWS))
    reference = crop_rows(REFERENCE, ROWS)
    for i, gains in enumerate(found):
        scores = []
        for x in (first, second):
            value = 10 * math.log10(64 / float((x[i] - reference[i]).square().mean()))
            scores.append(min(1.0, max(0.0, (value - 10) / 25)))
        assert gains["psnr"] == pytest.approx(math.tanh(scores[1] - scores[0]), abs=1e-6)
        assert gains["fr"] == pytest.approx(gain.group_gains(METRICS, gains)["fr"], rel=1e-9)
        assert "sharpness" not in gains


def test_metrics_without_reference_are_not_computed_early():
    asked = []

    def measure(x, reference):
        asked.append(len(x))
        return sharpness(x)

    measures = {**latent_measures(), "sharpness": measure}
    observer = MetricGains(BackEnd(REFERENCE, measures), METRICS, TIMESTEPS)
    observer(ROWS, predictions(0), [0] * len(ROWS))
    assert asked == []
    observer(ROWS, predictions(1), [3, *[1] * (len(ROWS) - 1)])
    assert asked == [1]


def test_a_metric_that_is_undefined_is_left_out():
    measures = {**latent_measures(), "nlpd": lambda x, reference: torch.full((len(x),), math.nan)}
    observer = MetricGains(BackEnd(REFERENCE, measures), METRICS, TIMESTEPS)
    for call in range(2):
        found = observer(ROWS, predictions(call), [call] * len(ROWS))
    assert all(set(gains) == {"psnr", "fr"} for gains in found)


def test_views_may_be_larger_than_the_latent_and_one_reference_serves_all_images():
    double = lambda x: torch.nn.functional.interpolate(x, scale_factor=2)  # noqa: E731
    one = REFERENCE[:1]
    plain = MetricGains(BackEnd(one, latent_measures()), METRICS[:1], TIMESTEPS)
    large = MetricGains(BackEnd(double(one), latent_measures(), double, 2), METRICS[:1], TIMESTEPS)
    for call in range(2):
        levels = [call] * len(ROWS)
        both = [observer(ROWS, predictions(call), levels) for observer in (plain, large)]
    assert all(a == pytest.approx(b, abs=1e-6) for a, b in zip(*both))


def test_regressor_gains_are_the_networks():
    observer = regressor_gains()
    levels = [[call] * len(ROWS) for call in (2, 3)]
    observer(ROWS, predictions(2), levels[0])
    found = observer(ROWS, predictions(3), levels[1])
    times = [torch.full((len(ROWS),), TIMESTEPS[i]) for i in (3, 2)]
    with torch.no_grad():
        expected = observer.regressor(predictions(3), predictions(2), crop_rows(REFERENCE, ROWS), *times)
    for gains, row, values in zip(found, ROWS, expected):
        assert gains is observer.latest[row.image, row.region_id]
        assert [gains[m.name] for m in observer.metrics] == pytest.approx(values.tolist(), abs=1e-6)
        assert set(gains) == {"psnr", "lpips", "ahiq", "nlpd", "brisque", "musiq", "fr", "nr"}


@pytest.mark.parametrize(
    "wrong", [lambda *x: torch.zeros(len(x[0]), 5), lambda *x: torch.full((len(x[0]), 6), math.nan)]
)
def test_a_regressor_that_gives_nonsense_is_an_error(wrong):
    observer = RegressorGains(wrong, REFERENCE, gain.PAPER_METRICS, TIMESTEPS)
    observer(ROWS, predictions(0), [0] * len(ROWS))
    with pytest.raises(ValueError, match="expected finite ones of shape"):
        observer(ROWS, predictions(1), [1] * len(ROWS))


def test_proxies_are_distance_sharpness_and_change():
    observer = proxy_gains()
    x = [predictions(call)[:1] for call in range(4)]
    found = [observer(ROWS[:1], x[call], [call])[0] for call in range(4)]
    reference = crop_rows(REFERENCE, ROWS[:1])
    distance = [float((x0 - reference).square().mean().sqrt()) for x0 in x]
    assert found[3]["fr"] == pytest.approx(math.tanh((distance[2] - distance[3]) / distance[0]), abs=1e-6)
    sharp = [float(sharpness(x0)) for x0 in x]
    assert found[3]["nr"] == pytest.approx(math.tanh((sharp[3] - sharp[2]) / max(sharp[2:])), abs=1e-6)
    change = float((x[3] - x[2]).square().mean().sqrt() / x[3].square().mean().sqrt())
    assert found[3]["change"] == pytest.approx(change, abs=1e-6)


def test_flat_latents_give_finite_proxies():
    observer = ProxyGains(torch.zeros(1, 4, 12, 16), TIMESTEPS)
    for call in range(4):
        found = observer(ROWS[:1], torch.zeros(1, 4, 8, 8), [call])
    assert found == [{"fr": 0.0, "nr": 0.0, "change": 0.0}]


@pytest.mark.parametrize("metrics", [(), gain.PAPER_METRICS])
def test_metrics_that_the_back_end_lacks_are_refused(metrics):
    with pytest.raises(ValueError, match="expected some of psnr, nlpd, sharpness"):
        MetricGains(BackEnd(REFERENCE, latent_measures()), metrics, TIMESTEPS)
