"""Responses of a policy to the test prompts, with rewards, log-probs and KL for the metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vbon.artifacts import read_table
from vbon.batches import Prompts, Rollouts
from vbon.methods.base import Method, Selection
from vbon.models.end_tokens import end_token_ids
from vbon.models.language_model import load_language_model, load_tokenizer, response_logits
from vbon.objectives.best_of_n import cap_log_below
from vbon.objectives.kl import kl_full, kl_k3
from vbon.pool.logf import estimate
from vbon.pool.table import load_prompts, rollout_rows
from vbon.rewards import Completions, RewardModel, load_reward_model, replace_unfinished
from vbon.sampling import sample
from vbon.seeding import derive_seed


@dataclass(frozen=True)
class Evaluator:
    """Samples policies on the same prompts with the same seeds, and scores their responses.

    Attributes:
        prompts: Test prompts.
        reference: Reference model, for KL.
        tokenizer: Tokenizer of the reference.
        reward_model: Training reward.
        evaluator: Held-out reward.
        responses: Number of responses per prompt.
        max_new_tokens: Length limit in tokens.
        temperature: Temperature of sampling and of both models' log-probs.
        seed: The same for all methods: common random numbers reduce the noise of differences.
        rewards: Section ``rewards`` of the config.
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
            eos_token_id=end_token_ids(self.tokenizer, self.reference),
            seed=derive_seed(self.seed, "evaluation"),
            temperature=self.temperature,
        )
        frame = rollout_rows(rollouts, self.prompts, self.tokenizer)
        prompts = self.prompts.select(rollouts.prompt_index)
        frame["kl"], frame["kl_k3"], frame["log_prob_ref"] = _divergences(
            policy, self.reference, prompts, rollouts, self.temperature
        )
        completions = Completions(self.tokenizer, prompts, rollouts.text_lists())
        scores = self.reward_model(completions)
        finished = frame["finished"].to_numpy()
        frame["reward"] = replace_unfinished(scores.reward, finished, self.rewards)
        frame["reward_prob"] = scores.prob
        frame["evaluator_reward"] = self.evaluator(completions).reward
        return frame


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
        batch, mask = prompts.select(rows).to(policy.device), rollouts.response_mask[rows]
        mask = mask[:, : int(mask.sum(1).max())].to(policy.device)
        ids = rollouts.response_ids[rows, : mask.shape[1]].to(policy.device)
        ours = _log_softmax(policy, batch, ids, mask, temperature)
        theirs = _log_softmax(reference, batch, ids, mask, temperature)
        # kl_full sees each unmasked token as a row of length 1; sums over responses follow.
        token_kl = kl_full(
            ours[:, None], theirs[:, None], torch.ones_like(ours[:, :1], dtype=torch.bool)
        )
        zeros = torch.zeros(mask.shape, dtype=torch.float64, device=mask.device)
        full = zeros.masked_scatter(mask, token_kl.double())
        log_prob, log_prob_ref = (
            zeros.masked_scatter(mask, log_probs.gather(1, ids[mask][:, None]).squeeze(1).double())
            for log_probs in (ours, theirs)
        )
        parts.append((full.sum(1), kl_k3(log_prob, log_prob_ref, mask), log_prob_ref.sum(1)))
    return tuple(torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))


def _log_softmax(
    model: PreTrainedModel, prompts: Prompts, ids: Tensor, mask: Tensor, temperature: float
) -> Float[Tensor, "counted vocab"]:
    """Log-probs of the vocabulary at each unmasked response token."""
    logits, _ = response_logits(model, prompts, ids, mask, temperature)
    return F.log_softmax(logits, dim=1)


def select_responses(
    method: Selection,
    fresh: pd.DataFrame,
    pool_sorted: dict[str, Float64[np.ndarray, " draws"]],
    num_responses: int,
    has_ties: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Responses that a selection method returns from fresh reference draws.

    ``log_prob`` is the reference's log-prob plus the method's log-ratio at the estimated log F, and
    ``kl`` is its closed form in nats, an upper bound where rewards are not continuous. With ties
    the mass of a reward is its share of the pool, if that is larger than the response's own
    probability, and ``kl`` is the pool's estimate.

    Args:
        method: The method at one setting.
        fresh: Scored draws, columns of schemas "samples" and "rewards", outside the ranking pool.
        pool_sorted: Ascending pool rewards of each prompt.
        num_responses: Maximum number of responses per prompt.
        has_ties: True if distinct responses often share a reward.
        seed: Seed of choices that depend on chance.
    """
    fresh = fresh.sort_values(["prompt_id", "draw"], kind="stable")
    prompts = fresh["prompt_id"].unique()
    rewards = torch.from_numpy(fresh["reward"].to_numpy().reshape(len(prompts), -1).copy())
    indices = method.choose(rewards, num_responses, seed)
    start = torch.arange(len(prompts))[:, None] * rewards.shape[1]
    picked: Any = fresh.iloc[(indices + start).flatten().numpy()].copy()
    picked["draw"] = np.tile(np.arange(indices.shape[1]), len(prompts))
    picked["log_prob_ref"] = picked["log_prob"]
    picked["kl"], picked["kl_k3"] = method.kl(), 0.0 if method.n == 1 else np.nan
    if method.n > 1:
        pools = np.stack([pool_sorted[name] for name in picked["prompt_id"]])
        rewards, log_prob = picked["reward"].to_numpy(copy=True), picked["log_prob"].to_numpy()
        level = log_prob
        if has_ties:
            picked["kl"] = method.kl(pools)
            share = (pools == rewards[:, None]).mean(1)
            level = np.log(np.maximum(share, np.exp(log_prob)))
        log_below = cap_log_below(estimate(rewards, pools), level)
        picked["log_prob"] = log_prob + method.log_ratio(log_below, level)
    return picked.reset_index(drop=True)


class Measure:
    """Loads the models once, then measures one run after the other.

    Args:
        inputs: Paths of artifacts by name: prompts, samples, rewards, logf and the three models.
        settings: The task's ``evaluation`` and ``rewards``, ``max_new_tokens``,
            ``temperature``, ``test_draws`` and ``fresh_draws``.
        seed: Seed with which responses are sampled, unless ``settings`` has ``sample_seeds``.
    """

    def __init__(self, inputs: dict[str, str], settings: dict[str, Any], seed: int) -> None:
        torch.set_num_threads(1)
        self._inputs, self._settings = inputs, settings
        self._sample_seeds = settings.get("sample_seeds") or [seed]
        size = settings["batch_size"]
        self._evaluator = Evaluator(
            prompts=load_prompts(inputs["prompts"]),
            reference=load_language_model(inputs["reference"]),
            tokenizer=load_tokenizer(inputs["reference"]),
            reward_model=load_reward_model(inputs["reward_model"], size, settings["transform"]),
            evaluator=load_reward_model(inputs["evaluator"], size),
            responses=settings["responses"],
            max_new_tokens=settings["max_new_tokens"],
            temperature=settings["temperature"],
            seed=seed,
            rewards=settings,
        )

    def __call__(self, method: Method, policy: str) -> pd.DataFrame:
        """Responses of one run for every sample seed, with draws numbered consecutively.

        Args:
            method: The method at the run's setting.
            policy: Model folder; ignored for a method that selects among reference draws.

        Returns:
            Table ``responses``.
        """
        parts = self._sampled(policy) if method.trained else self._selected(method)
        for block, (sample_seed, part) in enumerate(zip(self._sample_seeds, parts, strict=True)):
            part["draw"] += block * self._settings["responses"]
            part["sample_seed"] = sample_seed
        return pd.concat(parts, ignore_index=True)

    def _sampled(self, folder: str) -> list[pd.DataFrame]:
        """Responses of a policy by sample seed."""
        policy = load_language_model(folder)
        return [replace(self._evaluator, seed=seed).evaluate(policy) for seed in self._sample_seeds]

    def _selected(self, method: Method) -> list[pd.DataFrame]:
        """Draws that the method selects by sample seed; each of these has its block of draws."""
        pools = read_table(self._inputs["logf"], "logf").set_index("prompt_id")["rewards_sorted"]
        samples = read_table(self._inputs["samples"], "samples")
        rewards = read_table(self._inputs["rewards"], "rewards")
        scored = samples.merge(rewards, on=["prompt_id", "draw"], validate="one_to_one")
        blocks = (scored["draw"] - self._settings["test_draws"]) // self._settings["fresh_draws"]
        return [
            select_responses(
                method,
                scored[blocks == block],
                pools,
                self._settings["responses"],
                self._settings.get("has_ties", False),
                seed,
            )
            for block, seed in enumerate(self._sample_seeds)
        ]
