"""Batches passed between sampler, scorer, methods and trainers; masks are True for used tokens."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

TokenIds = Sequence[int] | Int[np.ndarray, " _"]
"""Token ids of one text: a list, or an array as in tables."""


def without_ends(response_ids: Iterable[TokenIds], finished: Iterable[bool]) -> list[TokenIds]:
    """Token ids of responses without the token that ended each finished one.

    An end token of the generation settings may be an ordinary one of the tokenizer, with a text.

    Example:
        >>> without_ends([[5, 2], [5, 6]], [True, False])
        [[5], [5, 6]]
    """
    pairs = zip(response_ids, finished, strict=True)
    return [ids[:-1] if ended else ids for ids, ended in pairs]


@dataclass(frozen=True)
class Prompts:
    """Prompts as token ids, padded on the right.

    Attributes:
        ids: Token ids; those beyond ``lengths`` are arbitrary and never read.
        lengths: Number of tokens of each prompt, at least 1.
        prompt_id: Key of each prompt in the artifacts.
        details: By key of a prompt, its optional columns ``messages`` and ``row`` as JSON, for
            rewards. Selections share it.
    """

    ids: Int[Tensor, "prompts tokens"]
    lengths: Int[Tensor, " prompts"]
    prompt_id: tuple[str, ...]
    details: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def from_lists(cls, prompt_ids: Sequence[TokenIds], names: Sequence[str]) -> "Prompts":
        """Pad lists of token ids, with the names of their prompts.

        Example:
            >>> Prompts.from_lists([[5, 6], [7]], ["a", "b"]).ids.tolist()
            [[5, 6], [7, 0]]
        """
        rows = [torch.as_tensor(list(row), dtype=torch.long) for row in prompt_ids]
        lengths = torch.tensor([len(row) for row in rows])
        return cls(pad_sequence(rows, batch_first=True), lengths, tuple(names))

    def __len__(self) -> int:
        return len(self.prompt_id)

    def id_lists(self) -> list[list[int]]:
        """Token ids of each prompt without padding."""
        lengths = self.lengths.tolist()
        return [row[:n] for row, n in zip(self.ids.tolist(), lengths, strict=True)]

    def to(self, device: torch.device) -> "Prompts":
        """Copy on a device."""
        return replace(self, ids=self.ids.to(device), lengths=self.lengths.to(device))

    def select(self, index: Int[Tensor, " batch"]) -> "Prompts":
        """The prompts at ``index``, padded to the longest of them."""
        lengths = self.lengths[index]
        names = tuple(self.prompt_id[i] for i in index.tolist())
        return Prompts(self.ids[index, : int(lengths.max())], lengths, names, self.details)


@dataclass(frozen=True)
class Rollouts:
    """Responses with the log-probs under which they were drawn.

    Attributes:
        prompt_index: Row of the prompt of each response in the :class:`Prompts` sampled from.
        response_ids: Token ids, 0 where the mask is False.
        response_mask: True up to and including a *sampled* end-of-sequence token.
        finished: True if an end-of-sequence token was sampled within the length limit.
        token_log_probs: Log-probs in nats of the sampled tokens, 0 where the mask is False.
        values: Values of the states before each token, if the sampler had a value head.
    """

    prompt_index: Int[Tensor, " batch"]
    response_ids: Int[Tensor, "batch tokens"]
    response_mask: Bool[Tensor, "batch tokens"]
    finished: Bool[Tensor, " batch"]
    token_log_probs: Float64[Tensor, "batch tokens"] | Tensor
    values: Tensor | None = None

    def __len__(self) -> int:
        return len(self.response_ids)

    @property
    def log_prob(self) -> Float64[Tensor, " batch"]:
        """Log-prob of the whole response, in nats."""
        return self.token_log_probs.double().sum(1)

    def to(self, device: torch.device) -> "Rollouts":
        """Copy on a device."""
        return Rollouts(**{k: None if v is None else v.to(device) for k, v in vars(self).items()})

    def select(self, index: Int[Tensor, " rows"]) -> "Rollouts":
        """The rollouts at ``index``."""
        return Rollouts(**{k: None if v is None else v[index] for k, v in vars(self).items()})

    @classmethod
    def joined(cls, parts: Sequence["Rollouts"]) -> "Rollouts":
        """Concatenated rollouts of the same prompts; with values only if all parts have them."""
        columns = {name: [getattr(part, name) for part in parts] for name in vars(parts[0])}
        return cls(**{k: None if any(v is None for v in column) else torch.cat(column)
                      for k, column in columns.items()})  # fmt: skip

    def response_lists(self) -> list[list[int]]:
        """Token ids of each response without padding."""
        lengths = self.response_mask.sum(1).tolist()
        return [row[:n] for row, n in zip(self.response_ids.tolist(), lengths, strict=True)]

    def text_lists(self) -> list[TokenIds]:
        """Token ids of each response without padding and without the token that ended it."""
        return without_ends(self.response_lists(), self.finished.tolist())


@dataclass(frozen=True)
class Scored:
    """Scores of rollouts, from which a method computes its training reward.

    Attributes:
        reward: Reward of each response, on the training scale.
        log_below: log P(r' < r) under the reference, exact or estimated, in nats.
        log_level: log P(r' = r) under the reference, in nats.
        log_prob_ref: Log-prob of each response under the reference, in nats.
        anchor_rewards: Rewards of the anchor's responses that each response is compared with;
            None for methods without an anchor.
    """

    reward: Float64[Tensor, " batch"]
    log_below: Float64[Tensor, " batch"]
    log_level: Float64[Tensor, " batch"]
    log_prob_ref: Float64[Tensor, " batch"]
    anchor_rewards: Float64[Tensor, "batch draws"] | None = None


@dataclass(frozen=True)
class Ranks:
    """Ranks of stored draws by reward, each among the other draws for its prompt.

    Attributes:
        num_below: Other draws with a lower reward.
        num_level: Other draws with an equal reward.
        num_others: Other draws in all, at least 1.
    """

    num_below: Int[Tensor, " draws"]
    num_level: Int[Tensor, " draws"]
    num_others: int

    @property
    def log_below(self) -> Float64[Tensor, " draws"]:
        """Log of the reference's distribution function by the estimator `add1`, in nats."""
        return torch.log((self.num_below.double() + 1) / (self.num_others + 1))

    @property
    def win_rate(self) -> Float64[Tensor, " draws"]:
        """Share of the other draws that a draw beats, ties half: the quantile of its reward."""
        return (self.num_below.double() + self.num_level.double() / 2) / self.num_others


@dataclass(frozen=True)
class OfflineBatch:
    """Batch of stored responses, from which an offline method computes its loss.

    Log-probs are sums over a response's tokens, in nats, at the sampling temperature.

    Attributes:
        log_prob_chosen: Log-probs of the preferred responses under the policy, with gradient.
        log_prob_chosen_ref: Log-probs of the preferred responses under the reference.
        num_tokens: Number of tokens of the preferred responses.
        mean_nll: Mean negative log-prob under the reference, over all preferred training
            responses.
        log_prob_rejected: Log-probs of the other responses under the policy, with gradient; None
            for a method that is not contrastive.
        log_prob_rejected_ref: Log-probs of the other responses under the reference, or None.
        log_ratio_target: Log-ratios of the preferred responses under the method's optimum, in
            nats; None for a method that does not regress on them.
    """

    log_prob_chosen: Float[Tensor, " batch"]
    log_prob_chosen_ref: Float[Tensor, " batch"]
    num_tokens: Int[Tensor, " batch"]
    mean_nll: float
    log_prob_rejected: Float[Tensor, " batch"] | None = None
    log_prob_rejected_ref: Float[Tensor, " batch"] | None = None
    log_ratio_target: Float[Tensor, " batch"] | None = None

    def log_ratios(self) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Log-ratios of policy to reference, in nats, of preferred and of other responses.

        Raises:
            TypeError: If the batch has no other responses.
        """
        if self.log_prob_rejected is None:
            raise TypeError("a method that compares responses must be `contrastive`")
        chosen = self.log_prob_chosen - self.log_prob_chosen_ref
        return chosen, self.log_prob_rejected - self.log_prob_rejected_ref
