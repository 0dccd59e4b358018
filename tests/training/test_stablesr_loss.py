import pytest
import torch
from adaptivesr.sampling.schedules import stable_diffusion_alphas
from adaptivesr.training.stablesr.losses import guided_diffusion_loss


@pytest.mark.parametrize("predicts_v", [False, True])
def test_the_loss_is_zero_for_the_target_and_its_square_elsewhere(predicts_v):
    generator = torch.Generator().manual_seed(0)
    hr, lr, noise = (torch.randn(3, 4, 5, 6, generator=generator) for _ in range(3))
    t = torch.tensor([0, 500, 999])
    a = torch.from_numpy(stable_diffusion_alphas()).float()[t].view(-1, 1, 1, 1)

    def target(x_t):
        """eps or v from the noised latent and the truth."""
        eps = (x_t - a.sqrt() * hr) / (1 - a).sqrt()
        return a.sqrt() * eps - (1 - a).sqrt() * hr if predicts_v else eps

    def predict(offset):
        def network(x_t, timesteps, latent):
            assert torch.equal(timesteps, t) and torch.equal(latent, lr)
            return target(x_t) + offset

        return guided_diffusion_loss(network, hr, lr, t, noise, predicts_v=predicts_v)

    # at t = 0 eps is a quotient of differences: float32 leaves about 1e-5 of it
    torch.testing.assert_close(predict(0.0), torch.zeros(3), atol=1e-8, rtol=0)
    torch.testing.assert_close(predict(2.0), torch.full((3,), 4.0), atol=1e-4, rtol=0)
