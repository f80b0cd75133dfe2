"""The PPO workload that every contestant runs, and the count of what it did."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from common import NEW_TOKENS, forward_flops, random_prompts

ROLLOUTS, EPOCHS, MINIBATCH = 128, 4, 32
LEARNING_RATE, KL_COEF, TRAINING_PROMPTS = 1e-4, 0.05, 512


def prompts() -> list[list[int]]:
    """The training prompts."""
    return random_prompts(TRAINING_PROMPTS, seed=3)


@dataclass
class Work:
    """Counted where the work is done, not read from settings.

    Attributes:
        episodes: Responses scored.
        tokens: Tokens of these responses.
        flops: Operations their sampling, scoring under the reference and training need at least.
        steps: Optimiser steps.
        rows: Sequences that went through a forward pass with gradient.
        columns: Length of the batches they were padded to, summed over sequences.
        kl: The last KL that was reported, to see that it trains.
    """

    episodes: int = 0
    tokens: int = 0
    flops: float = 0.0
    steps: int = 0
    rows: int = 0
    columns: int = 0
    kl: float = float("nan")

    def add_rollouts(self, prompt_lengths: Sequence[int], response_lengths: Sequence[int]) -> None:
        """Count sampled responses: one pass to sample, one for the reference, three an epoch."""
        self.episodes += len(response_lengths)
        self.tokens += sum(response_lengths)
        self.flops += (2 + 3 * EPOCHS) * sum(map(forward_flops, prompt_lengths))

    def add_training(self, rows: int, columns: int) -> None:
        """Count a batch that was trained on."""
        self.rows += rows
        self.columns += rows * columns

    def as_dict(self) -> dict[str, float]:
        """As plain values."""
        return asdict(self)

    def check(self, iterations: int) -> None:
        """Raise AssertionError unless it is the workload, no more and no less."""
        assert self.episodes == iterations * ROLLOUTS, self
        assert self.tokens == self.episodes * NEW_TOKENS, self
        assert self.steps == iterations * EPOCHS * ROLLOUTS // MINIBATCH, self
        assert self.rows == self.episodes * EPOCHS, self
        longest = self.columns / self.rows - NEW_TOKENS
        # The last token of a response predicts nothing, so it need not be fed back.
        assert 6.5 <= longest <= 8, f"batches are {longest:.2f} tokens longer than a response"
