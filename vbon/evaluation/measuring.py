"""Sample and score what runs made, all at one temperature with the same models."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from vbon.artifacts import read_table
from vbon.evaluation.policy import Evaluator, select_responses
from vbon.methods.base import Method
from vbon.models.language_model import load_language_model, load_tokenizer
from vbon.rewards import load_reward_model
from vbon.training.runs import load_prompts


class Measure:
    """Loads the models once, then measures one run after the other.

    Args:
        inputs: Artifact by name: prompts, samples, rewards, logf and the three models.
        chosen: How it is measured: the task's ``evaluation`` and ``rewards``, ``max_new_tokens``,
            ``temperature``, ``test_draws`` and ``fresh_draws``.
        seed: By which responses are sampled, unless ``chosen`` has ``sample_seeds``.
    """

    def __init__(self, inputs: dict[str, str], chosen: dict[str, Any], seed: int) -> None:
        torch.set_num_threads(1)
        self._inputs, self._chosen = inputs, chosen
        self._sample_seeds = chosen.get("sample_seeds") or [seed]
        size = chosen["batch_size"]
        self._evaluator = Evaluator(
            prompts=load_prompts(inputs["prompts"]),
            reference=load_language_model(inputs["reference"]),
            tokenizer=load_tokenizer(inputs["reference"]),
            reward_model=load_reward_model(inputs["reward_model"], size, chosen["transform"]),
            evaluator=load_reward_model(inputs["evaluator"], size),
            responses=chosen["responses"],
            max_new_tokens=chosen["max_new_tokens"],
            temperature=chosen["temperature"],
            seed=seed,
            rewards=chosen,
        )

    def __call__(self, method: Method, policy: str) -> pd.DataFrame:
        """Responses of one run by every sample seed, draws numbered through.

        Args:
            method: At the run's setting.
            policy: Model folder; not looked at where the method chooses among draws.

        Returns:
            Table ``responses``.
        """
        answer = self._sampled(policy) if method.trained else self._selected(method)
        parts = []
        for block, sample_seed in enumerate(self._sample_seeds):
            part = answer(block, sample_seed)
            part["draw"] += block * self._chosen["responses"]
            parts.append(part.assign(sample_seed=sample_seed))
        return pd.concat(parts, ignore_index=True)

    def _sampled(self, folder: str) -> Callable[[int, int], pd.DataFrame]:
        """Responses of a policy by the number of a sample seed, and the seed."""
        policy = load_language_model(folder)
        return lambda _, seed: replace(self._evaluator, seed=seed).evaluate(policy)

    def _selected(self, method: Method) -> Callable[[int, int], pd.DataFrame]:
        """Responses chosen among draws of the reference, others for each sample seed."""
        pools = read_table(self._inputs["logf"], "logf").set_index("prompt_id")["rewards_sorted"]
        samples = read_table(self._inputs["samples"], "samples")
        rewards = read_table(self._inputs["rewards"], "rewards")
        scored = samples.merge(rewards, on=["prompt_id", "draw"], validate="one_to_one")
        first, size = self._chosen["test_draws"], self._chosen["fresh_draws"]
        blocks = (scored["draw"] - first) // size

        def answer(block: int, _: int) -> pd.DataFrame:
            fresh = scored[blocks == block]
            return select_responses(method, fresh, pools, self._chosen["responses"])

        return answer
