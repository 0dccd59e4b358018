"""A case in a forked child ends whatever the parent has computed before."""

import os

import pytest
import torch


@pytest.mark.skipif(not hasattr(os, "fork"), reason="cases run in processes of their own")
def test_a_child_does_not_wait_for_threads_that_only_its_parent_has():
    from adaptivesr.tools.fuzz.isolation import outcome_of

    def case() -> str:
        return f"{torch.ones(400, 400).matmul(torch.ones(400, 400)).sqrt().mean().item():.0f}"

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert case() == "20"  # from here on the parent has a second thread
        outcome, _ = outcome_of(case)
        kept = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    assert outcome == "20" and kept == 2
