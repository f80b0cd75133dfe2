"""Responses of a policy to the test prompts, with everything that the metrics are made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vbon.logf import estimate
from vbon.methods.base import Selection
from vbon.models.language_model import response_logits
from vbon.objectives.best_of_n import cap_log_below, kl_upper_bound, log_bon_ratio
from vbon.objectives.kl import kl_full, kl_k3
from vbon.rewards import RewardModel, full_texts, replace_unfinished
from vbon.sampling import sample
from vbon.seeding import derive_seed
from vbon.types import Prompts, Rollouts

_COLUMNS = ("prompt_id", "draw", "response", "response_ids", "finished", "log_prob")


@dataclass(frozen=True)
class Evaluator:
    """Samples policies on the same prompts with the same seeds, and scores what they say.

    Attributes:
        prompts: Test prompts.
        reference: The reference model, for KL.
        tokenizer: Of the reference.
        reward_model: Training reward.
        evaluator: Held-out reward.
        responses: Responses a prompt.
        max_new_tokens: Length limit.
        temperature: Of sampling and of both models' log-probs.
        seed: Shared by all methods, so that differences between them are not differences of luck.
        rewards: The section ``rewards`` of the config.
    """

    prompts: Prompts
    reference: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    reward_model: RewardModel
    evaluator: RewardModel
    responses: int
    max_new_tokens: int
    temperature: float
    seed: int
    rewards: Mapping[str, Any] = field(default_factory=dict)

    def evaluate(self, policy: PreTrainedModel) -> pd.DataFrame:
        """Sample and score a policy; rows of schema "responses"."""
        rollouts = sample(
            policy,
            self.prompts,
            draws=self.responses,
            max_new_tokens=self.max_new_tokens,
            eos_token_id=self.tokenizer.eos_token_id,
            seed=derive_seed(self.seed, "evaluation"),
            temperature=self.temperature,
        )
        frame = describe(rollouts, self.prompts, self.tokenizer)
        prompts = self.prompts.select(rollouts.prompt_index)
        kl, k3, log_prob_ref = _divergences(
            policy, self.reference, prompts, rollouts, self.temperature
        )
        frame["kl"], frame["kl_k3"], frame["log_prob_ref"] = kl, k3, log_prob_ref
        texts = full_texts(self.tokenizer, prompts.id_lists(), frame["response_ids"])
        scores = self.reward_model(texts)
        finished = frame["finished"].to_numpy()
        frame["reward"] = replace_unfinished(scores.reward, finished, self.rewards)
        frame["reward_prob"] = scores.prob
        frame["evaluator_reward"] = self.evaluator(texts).reward
        return frame


def describe(
    rollouts: Rollouts, prompts: Prompts, tokenizer: PreTrainedTokenizerBase, first_draw: int = 0
) -> pd.DataFrame:
    """Rollouts as rows of schema "samples"."""
    ids = rollouts.response_lists()
    draws = np.arange(len(rollouts)) % (len(rollouts) // len(prompts)) + first_draw
    names = [prompts.prompt_id[index] for index in rollouts.prompt_index.tolist()]
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
    columns = (names, draws, texts, ids, rollouts.finished.numpy(), rollouts.log_prob.numpy())
    return pd.DataFrame(dict(zip(_COLUMNS, columns, strict=True)))


@torch.no_grad()
def _divergences(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    prompts: Prompts,
    rollouts: Rollouts,
    temperature: float,
    rows_per_batch: int = 256,
) -> tuple[Float64[np.ndarray, " batch"], ...]:
    """Full-vocabulary KL, k3 and reference log-prob of each response, in nats."""
    parts = []
    for rows in torch.arange(len(rollouts)).split(rows_per_batch):
        asked, mask = prompts.select(rows).to(policy.device), rollouts.response_mask[rows]
        mask = mask[:, : int(mask.sum(1).max())].to(policy.device)
        ids = rollouts.response_ids[rows, : mask.shape[1]].to(policy.device)
        ours = _log_softmax(policy, asked, ids, mask, temperature)
        theirs = _log_softmax(reference, asked, ids, mask, temperature)
        # Each token that counts is a row of its own here; their KLs are added up by response.
        each = kl_full(
            ours[:, None], theirs[:, None], torch.ones_like(ours[:, :1], dtype=torch.bool)
        )
        zeros = torch.zeros(mask.shape, dtype=torch.float64, device=mask.device)
        full = zeros.masked_scatter(mask, each.double())
        chosen, chosen_ref = (
            zeros.masked_scatter(mask, log_probs.gather(1, ids[mask][:, None]).squeeze(1).double())
            for log_probs in (ours, theirs)
        )
        parts.append((full.sum(1), kl_k3(chosen, chosen_ref, mask), chosen_ref.sum(1)))
    return tuple(torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))


def _log_softmax(
    model: PreTrainedModel, prompts: Prompts, ids: Tensor, mask: Tensor, temperature: float
) -> Float[Tensor, "counted vocab"]:
    """Log-probs of the vocabulary before each response token that counts."""
    logits, _ = response_logits(model, prompts, ids, mask, temperature)
    return F.log_softmax(logits, dim=1)


def select_responses(
    method: Selection,
    fresh: pd.DataFrame,
    pool_sorted: dict[str, Float64[np.ndarray, " draws"]],
    num_responses: int,
) -> pd.DataFrame:
    """Responses that a selection method returns from fresh reference draws.

    For best-of-n, ``log_prob`` adds the estimated log-ratio S to the reference's log-prob, and
    ``kl`` is the closed-form upper bound, which is conservative for best-of-n.

    Args:
        method: The method at one setting.
        fresh: Scored draws of schema "samples" and "rewards", outside the ranking pool.
        pool_sorted: Ascending pool rewards of each prompt.
        num_responses: Most responses a prompt.
    """
    fresh = fresh.sort_values(["prompt_id", "draw"], kind="stable")
    prompts = fresh["prompt_id"].unique()
    rewards = torch.from_numpy(fresh["reward"].to_numpy().reshape(len(prompts), -1).copy())
    chosen = method.choose(rewards, num_responses)
    start = torch.arange(len(prompts))[:, None] * rewards.shape[1]
    picked: Any = fresh.iloc[(chosen + start).flatten().numpy()].copy()
    picked["draw"] = np.tile(np.arange(chosen.shape[1]), len(prompts))
    picked["log_prob_ref"] = picked["log_prob"]
    picked["kl"], picked["kl_k3"] = kl_upper_bound(method.n), 0.0 if method.n == 1 else np.nan
    if method.n > 1:
        pools = np.stack([pool_sorted[name] for name in picked["prompt_id"]])
        level = picked["log_prob"].to_numpy()
        log_below = cap_log_below(estimate(picked["reward"].to_numpy(copy=True), pools), level)
        picked["log_prob"] = level + log_bon_ratio(log_below, level, method.n)
    return picked.reset_index(drop=True)
