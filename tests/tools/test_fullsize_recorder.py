"""What the full-size check must catch: faults of devices and dtypes that a machine without a GPU never shows."""

import adaptivesr.sampling.adaptive.sampler as region_loop
import pytest
import torch
from adaptivesr.imaging.tiles import Region, grid
from adaptivesr.imaging.transfer import DeferredRead
from adaptivesr.models import layers, registry, residual_unet
from adaptivesr.sampling.adaptive.choices import MergeMode
from adaptivesr.sampling.adaptive.gain import GainMetric
from adaptivesr.sampling.adaptive.observers import BackEnd, MetricGains, ProxyGains, RegressorGains
from adaptivesr.sampling.adaptive.policy import FixedSchedule
from adaptivesr.sampling.adaptive.sampler import canvas_noise, sample_regions
from adaptivesr.sampling.adaptive.step_size import Moves
from adaptivesr.sampling.adaptive.steppers import stepper_for
from adaptivesr.sampling.adaptive.types import NoiseSpace, Row
from adaptivesr.sampling.batching import BatchSize
from adaptivesr.tools.bench.parts.region_networks import WatchedRun
from adaptivesr.tools.device.layers import Casting
from adaptivesr.tools.fullsize.networks import watch
from adaptivesr.tools.fullsize.recorder import DeviceFaultError, Recorder, on_device, recording
from adaptivesr.tools.small_models.resshift import small_teacher

STEPS = 2


class Network(torch.nn.Module):
    """Three convolutions, and optionally what a careless author adds to them."""

    def __init__(self, fault=""):
        super().__init__()
        self.layer = torch.nn.Conv2d(4, 4, 3, padding=1)
        self.fault = fault
        self.offset = torch.ones(4, 1, 1)  # a plain attribute: no move takes it along

    def forward(self, x):
        if self.fault == "cpu buffer":
            x = x + self.offset
        if self.fault == "float32 constant":
            x = x * torch.full((4, 1, 1), 0.5, device=x.device)
        if self.fault == "item":
            x = x * (x.mean().item() + 1)
        return self.layer(x)


def sampled(fault="", steps=STEPS, *, gains=None, overflow=None, again=True):
    """A run of the region loop on a network with this fault, in float16: its counts, and the sigmas of its calls.

    At the sigma `overflow` a row is not finite in half precision, and in float32 neither unless `again`.
    """
    with recording(Recorder(2**30)) as recorder:
        torch.manual_seed(0)
        network = Network(fault).half().to("cuda").requires_grad_(False)
        watch(recorder, "network", network)
        x = torch.randn(1, 4, 24, 24).to("cuda")
        regions = grid(24, 24, 16, 8)
        called = []

        def model(x, sigma, rows):
            called.append(float(sigma[0]))
            x0 = network(x.half()).float()
            if called[-1] == overflow:
                x0[1] = x0[1] / 0
            return x0

        def full_precision(x, sigma, rows):
            return network(x.half()).float() if again else x / 0

        recorder.start()
        result = sample_regions(
            model,
            x,
            [float(steps - i) for i in range(steps + 1)],
            regions=regions,
            stepper=stepper_for("euler", NoiseSpace.VARIANCE_EXPLODING),
            merge=MergeMode.CONSENSUS,
            policy=FixedSchedule(),
            noise=canvas_noise(x, 0),
            rows_per_call=BatchSize(len(regions)),
            full_precision=full_precision,
            observer=WatchedRun(observe=gains and gains(x)),
        )
        assert on_device(result.samples)
        assert (result.work.calls, result.work.float32_retries) == (steps, int(overflow is not None))
        return recorder.counts, called


def waits(counts):
    found, calls = counts.syncs_between_calls()
    assert calls == STEPS - 1
    return [sync for sync in found.elements() if "forward" in sync.place]


def test_a_run_without_fault_is_counted():
    counts, *_ = sampled()
    assert counts.flop == STEPS * 4 * 2 * 4 * 4 * 9 * 16 * 16, "four regions, a 3x3 convolution of 4 to 4 channels"
    assert counts.peak > 0
    assert not waits(counts)


def places_between_calls(counts):
    return [sync.place.split(" ")[1] for sync in counts.syncs_between_calls()[0].elements()]


def test_a_fixed_step_of_the_region_loop_waits_for_nothing():
    assert not places_between_calls(sampled(steps=4)[0])


def test_a_step_by_gains_waits_once_a_call():
    counts, *_ = sampled(steps=4, gains=lambda x: ProxyGains(x, [900.0, 600.0, 400.0, 100.0]))
    assert places_between_calls(counts) == ["predict"] * 3, "gains and the check for overflow are read together"


@pytest.mark.parametrize(
    ("sigma", "called"), [(4.0, [4, 3, 4, 3, 2, 1]), (2.0, [4, 3, 2, 1, 2, 1]), (1.0, [4, 3, 2, 1, 1])]
)
def test_an_overflow_is_seen_a_round_later_and_that_round_is_made_again(sigma, called):
    assert sampled(steps=4, overflow=sigma)[1] == called


def test_an_overflow_in_float32_too_is_the_same_error_a_round_later():
    with pytest.raises(ValueError, match=r"not finite for region 2 .* of image 1 at sigma 2, in float32 too"):
        sampled(steps=4, overflow=2.0, again=False)


def test_an_asynchronous_read_is_a_wait_unless_the_device_has_work_meanwhile():
    def kinds(read):
        with recording(Recorder(2**30)) as recorder:
            x = torch.ones(4, device="cuda", dtype=torch.bool)
            read(recorder, x)
            return [sync.kind for sync in recorder.counts.syncs.elements()]

    def at_once(recorder, x):
        DeferredRead(x).read()

    def after_a_call(recorder, x):
        later = DeferredRead(x)
        recorder.counts.timeline.append("network")
        assert later.read() == [True] * 4

    assert kinds(at_once) == ["read"] and kinds(after_a_call) == []
    assert kinds(lambda recorder, x: x.to("cpu", non_blocking=True)) == ["asynchronous read"], (
        "nobody waits until it is there"
    )


def test_a_tensor_left_on_the_cpu_is_refused():
    with pytest.raises(RuntimeError, match="two different devices"):
        sampled("cpu buffer")


def test_a_float32_constant_beside_float16_is_refused():
    with pytest.raises(RuntimeError, match=r"(?i)dtype|type"):
        sampled("float32 constant")


def test_a_value_read_in_the_loop_is_a_wait_in_every_step():
    assert len(waits(sampled("item")[0])) == 1


def test_values_of_small_tensors_survive_the_trip_to_the_device():
    with recording(Recorder(2**30)) as recorder:
        levels = torch.tensor([3.0, 2.0, 0.0]).to("cuda")
        assert (levels[1:] * 2).tolist() == [4.0, 0.0]
        assert [sync.kind for sync in recorder.counts.syncs.elements()] == ["upload", "read"]


def test_memory_is_free_again_when_tensors_are_gone():
    with recording(Recorder(2**30)) as recorder:
        kept = torch.zeros(2**20, device="cuda")
        assert recorder.live == 4 * 2**20
        half = kept[: 2**19]  # a view needs none
        assert recorder.live == 4 * 2**20
        more = kept + 1
        assert recorder.counts.peak == 8 * 2**20
        del kept, half, more
        assert recorder.live == 0


def test_weights_are_not_activations():
    with recording(Recorder(2**30)) as recorder:
        network = torch.nn.Linear(256, 256, bias=False).to("cuda")
        assert recorder.weights == 4 * 256 * 256
        recorder.start()
        network(torch.ones(1, 256, device="cuda"))
        assert recorder.activations == 2 * 4 * 256


def test_a_half_precision_network_that_computes_in_float32_is_refused():
    class Widening(Network):
        def forward(self, x):
            return self.layer.float()(x.float())  # as layers that follow their input would, behind a float32 constant

    with recording(Recorder(2**30)) as recorder:
        network = Widening().half().to("cuda").requires_grad_(False)
        watch(recorder, "network", network)
        with pytest.raises(DeviceFaultError, match="in float32"):
            network(torch.randn(1, 4, 8, 8, device="cuda", dtype=torch.float16))


ROWS = [Row(0, index, Region(0, 16 * index, 16, 16)) for index in range(3)]
METRICS = (
    GainMetric("psnr", 0.0, 60.0),
    GainMetric("nlpd", 0.0, 1.0),
    GainMetric("sharpness", 0.0, 1.0, full_reference=False),
)


def metric_gains(canvas):
    measures = {metric.name: lambda x, y: (x - y).abs().mean((1, 2, 3)) for metric in METRICS}
    return MetricGains(BackEnd(canvas, measures), METRICS, [900.0, 400.0, 100.0])


def regressor_gains(canvas):
    return RegressorGains(
        lambda x0, *_: x0.mean((1, 2, 3))[:, None].repeat(1, 3), canvas, METRICS, [900.0, 400.0, 100.0]
    )


@pytest.mark.parametrize(
    "make",
    [metric_gains, regressor_gains, lambda canvas: ProxyGains(canvas, [900.0, 400.0, 100.0]), lambda canvas: Moves()],
)
def test_gains_of_a_call_are_read_at_once(make):
    with recording(Recorder(2**30)) as recorder:
        gains = make(torch.zeros(1, 4, 16, 48, device="cuda"))
        for level in range(2):
            recorder.start()
            gains(ROWS, torch.zeros(3, 4, 16, 16, device="cuda"), [0, level, level])
            waits = list(recorder.counts.syncs.elements())
            assert len(waits) <= 1, waits


# Faults planted in the product's own code


@pytest.fixture
def denoiser():
    """A call of a small ResShift network, built and moved as the host does it, in float16 on the fake device."""
    weights = {key: value.half() for key, value in small_teacher().items()}

    def call(recorder):
        network = registry.build(registry.identify(weights), operations=Casting, dtype=torch.float16)
        network.load_state_dict(weights)
        network = network.to("cuda").requires_grad_(False)
        watch(recorder, "denoiser", network)
        x = torch.randn(1, 3, 16, 16, device="cuda", dtype=torch.float16)
        recorder.start()
        return network(x, torch.zeros(1, device="cuda"), torch.zeros(1, 3, 16, 16, device="cuda", dtype=torch.float16))

    return call


def test_the_denoiser_itself_passes(denoiser):
    with recording(Recorder(2**30)) as recorder:
        assert denoiser(recorder).dtype == torch.float16
        assert not recorder.counts.syncs


def test_a_constant_on_the_cpu_in_a_network_is_caught(denoiser, monkeypatch):
    plain = layers.timestep_embedding
    monkeypatch.setattr(residual_unet, "timestep_embedding", lambda t, dim: plain(t, dim) + torch.ones(dim))
    with recording(Recorder(2**30)) as recorder, pytest.raises(RuntimeError, match="two different devices"):
        denoiser(recorder)


def test_a_normalisation_that_widens_what_flows_on_is_caught(denoiser, monkeypatch):
    monkeypatch.setattr(residual_unet, "group_norm", lambda norm, x: norm(x.float()))
    with recording(Recorder(2**30)) as recorder, pytest.raises((RuntimeError, DeviceFaultError), match=r"(?i)float"):
        denoiser(recorder)


def test_a_value_read_in_the_region_loop_is_caught(monkeypatch):
    take = region_loop._RegionRun.take

    def reading(run, chunk, x0, gains, merger):
        run.seen = x0.abs().max().item()
        take(run, chunk, x0, gains, merger)

    monkeypatch.setattr(region_loop._RegionRun, "take", reading)
    assert places_between_calls(sampled()[0]) == ["reading"]


def test_a_window_left_on_the_cpu_is_caught(monkeypatch):
    finish = region_loop.Merger.finish
    monkeypatch.setattr(region_loop.Merger, "finish", lambda merger: finish(merger) * torch.ones(24, 24))
    with pytest.raises(RuntimeError, match="two different devices"):
        sampled()
