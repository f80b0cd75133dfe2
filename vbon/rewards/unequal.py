"""Rewards made unequal, to study methods that depend on their scale: order stays as it was."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float64, Int

from vbon.seeding import derive_seed


@dataclass(frozen=True)
class Inequality:
    r"""Strictly increasing map of each prompt's rewards.

    .. math:: r \mapsto e^{\sigma z_x}\, (e^{a r} - 1) / a

    Ranks within a prompt x do not change, so win rates, log F and all methods that use ranks alone
    stay the same. With :math:`\sigma = a = 0` it is the identity.

    Attributes:
        prompt_scale: Standard deviation :math:`\sigma` of the logarithm of a prompt's factor; the
            standard normal :math:`z_x` depends on the prompt's id alone.
        reward_tail: Rate a of the exponential, which makes the upper tail heavy.

    Example:
        >>> unequal = Inequality(prompt_scale=0.0, reward_tail=1.0)
        >>> unequal(np.array([0.0, 1.0]), ["p", "q"], np.array([0, 1])).round(3).tolist()
        [0.0, 1.718]
    """

    prompt_scale: float
    reward_tail: float

    def __bool__(self) -> bool:
        """False for the identity."""
        return bool(self.prompt_scale or self.reward_tail)

    def __call__(
        self,
        reward: Float64[np.ndarray, " responses"],
        prompt_ids: Sequence[str],
        index: Int[np.ndarray, " responses"],
    ) -> Float64[np.ndarray, " responses"]:
        """Mapped rewards.

        Args:
            reward: Training rewards.
            prompt_ids: Ids of all prompts.
            index: Position of each response's prompt among them.
        """
        if self.reward_tail:
            reward = np.expm1(self.reward_tail * reward) / self.reward_tail
        return reward * np.array([self.scale(name) for name in prompt_ids])[index]

    def scale(self, prompt_id: str) -> float:
        """Factor of a prompt's rewards."""
        uniform = (derive_seed(0, "prompt scale", prompt_id) + 0.5) / 2**63
        return float(np.exp(self.prompt_scale * NormalDist().inv_cdf(uniform)))
