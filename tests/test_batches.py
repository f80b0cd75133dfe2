"""Selecting, joining and splitting of batches."""

import torch

from vbon.batches import Prompts, Rollouts


def test_selected_prompts_have_no_more_padding_than_they_need():
    prompts = Prompts.from_lists([[1, 2, 3], [4], [5, 6]], ["a", "b", "c"])
    chosen = prompts.select(torch.tensor([2, 1, 2]))
    assert chosen.prompt_id == ("c", "b", "c")
    assert chosen.lengths.tolist() == [2, 1, 2]
    assert chosen.ids.tolist() == [[5, 6], [4, 0], [5, 6]]
    assert len(prompts) == len(chosen) == 3


def test_rollouts_add_up_and_come_apart():
    mask = torch.tensor([[True, True, False], [True, False, False]])
    ids, log_probs = (
        torch.tensor([[7, 0, 0], [8, 0, 0]]),
        torch.tensor([[-1.0, -2, 0], [-0.5, 0, 0]]),
    )
    rollouts = Rollouts(torch.tensor([0, 0]), ids, mask, mask[:, 1], log_probs)
    assert rollouts.response_lists() == [[7, 0], [8]]  # token 0 is a token like any other
    assert rollouts.log_prob.tolist() == [-3.0, -0.5]
    assert rollouts.log_prob.dtype == torch.float64
    assert len(rollouts) == 2
