"""What one returned response costs: tokens and seconds of best-of-n and of trained policies."""

import time
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vbon.batches import Prompts
from vbon.rewards import RewardModel, full_texts
from vbon.sampling import sample
from vbon.seeding import derive_seed

_ROWS = 4096  # responses decoded at a time, by all alike
_LONG = 2.0  # seconds; what was measured for as long is not measured again


@dataclass(frozen=True)
class Cost:
    """Cost of one returned response.

    Attributes:
        tokens: Generated tokens, the end-of-sequence token included.
        sample_seconds: Of generating them, in batches of many prompts.
        score_seconds: Of choosing one by reward.
    """

    tokens: float
    sample_seconds: float
    score_seconds: float

    @property
    def seconds(self) -> float:
        """Both together."""
        return self.sample_seconds + self.score_seconds


@dataclass(frozen=True)
class Server:
    """Answers prompts, and takes the time.

    Attributes:
        prompts: Each gets one response.
        tokenizer: Of the reference.
        reward_model: What best-of-n chooses by.
        max_new_tokens: Length limit.
        temperature: Of sampling.
        seed: Of sampling.
        repeats: Measurements, of which the fastest counts: others waited for the machine. One that
            takes seconds is not repeated, as it has slow and fast moments of its own.
    """

    prompts: Prompts
    tokenizer: PreTrainedTokenizerBase
    reward_model: RewardModel
    max_new_tokens: int
    temperature: float
    seed: int
    repeats: int = 3

    def cost(
        self, model: PreTrainedModel, reference: PreTrainedModel, draws: int = 1
    ) -> tuple[Cost, Cost]:
        """Cost of the best of so many draws of a model, and of one draw of the reference.

        The two are measured in turn, so that a machine that is slow for a while is slow for both.

        Args:
            model: Policy or reference.
            reference: The reference.
            draws: Draws a prompt; more than one are scored.
        """
        ours, theirs = [], []
        for _ in range(self.repeats):
            if sum(cost.seconds for cost in ours) * len(self.prompts) < _LONG:
                ours.append(self._serve(model, draws))
            theirs.append(self._serve(reference, 1))
        return tuple(min(costs, key=lambda cost: cost.seconds) for costs in (ours, theirs))

    def _serve(self, model: PreTrainedModel, draws: int) -> Cost:
        """Answer every prompt once."""
        tokens, sampled, scored = 0, 0.0, 0.0
        for rows in torch.arange(len(self.prompts)).split(max(1, _ROWS // draws)):
            asked = self.prompts.select(rows)
            started = time.perf_counter()
            rollouts = sample(
                model,
                asked,
                draws=draws,
                max_new_tokens=self.max_new_tokens,
                eos_token_id=self.tokenizer.eos_token_id,
                seed=derive_seed(self.seed, "inference"),
                temperature=self.temperature,
            )
            sampled += time.perf_counter() - started
            tokens += int(rollouts.response_mask.sum())
            if draws > 1:
                started = time.perf_counter()
                ids = asked.select(rollouts.prompt_index).id_lists()
                texts = full_texts(self.tokenizer, ids, rollouts.response_lists())
                self.reward_model(texts).reward.reshape(len(rows), draws).argmax(1)
                scored += time.perf_counter() - started
        count = len(self.prompts)
        return Cost(tokens / count, sampled / count, scored / count)
