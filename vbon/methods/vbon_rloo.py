"""vBoN with the prompt's other responses as baseline."""

from dataclasses import dataclass

from vbon.methods.registry import register
from vbon.methods.vbon import VBoN


@register
@dataclass(frozen=True, kw_only=True)
class VBoNRLOO(VBoN):
    r"""Minimise :math:`KL(\pi_\theta \| \pi_\mathrm{bon})` as ``vbon`` does, without a value head.

    Needs ``draws_per_prompt`` of at least 2.
    """

    label = "vBoN-RLOO"

    paper = "arXiv:2407.06057v3, equation 5, by the estimator of arXiv:2402.14740v2, equation 8"
    leave_one_out = True
