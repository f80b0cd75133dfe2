"""Warm start of online methods: likelihood of stored draws, weighted by the method's optimum."""

from typing import Any

from transformers import PreTrainedModel

from vbon.methods.base import Likelihood, Online
from vbon.seeding import derive_seed
from vbon.training.compute import Compute
from vbon.training.offline import Examples, OfflineSettings, OfflineTrainer
from vbon.training.trainer import Diverged, Environment


def fitted_to_optimum(
    policy: PreTrainedModel,
    method: Online,
    environment: Environment,
    settings: Any,
    seed: int,
    compute: Compute,
) -> OfflineTrainer:
    r"""Maximise the likelihood of responses of the method's own optimum, before any rollout.

    .. math:: \min_\theta\; E_{y \sim \pi^*}[-\log \pi_\theta(y)], \qquad
        \pi^*(y) \propto \pi_\mathrm{ref}(y)\, e^{R(y) / \beta}

    The responses are draws of the reference that are stored anyway, chosen by the weights
    :math:`e^{R / \beta}` (:meth:`vbon.training.stored.StoredDraws.choose`): nothing is sampled or
    scored. This forward divergence has the same minimiser as the reverse one of the rollouts.

    Args:
        policy: Its parameters are updated in place.
        method: Gives the weights (:meth:`vbon.methods.base.Online.log_tilt`).
        environment: Training prompts, reference and stored draws.
        settings: The :class:`vbon.training.online.OnlineSettings`.
        seed: Seed of the choice and order of responses.
        compute: Computation of an update.

    Returns:
        The trainer that did it, for its counts.

    Raises:
        Diverged: If a weight, a loss or a gradient is not finite.
    """
    stored, seed = environment.stored, derive_seed(seed, "warm start")
    log_weights = stored.log_weights(method)
    if log_weights.isnan().any():
        raise Diverged("warm start: a weight is not finite; a reward or its log F is no number")
    rows = stored.choose(log_weights, settings.warm_start, seed)
    log_prob_ref = stored.scored.log_prob_ref
    examples = Examples(
        stored.prompt_index, stored.response_ids, stored.lengths, log_prob_ref, rows, rows
    )
    loop = OfflineSettings(
        epochs=1,
        updates=None,
        batch_size=settings.warm_start_batch,
        learning_rate=settings.warm_start_rate,
        schedule="linear",
        warmup=0.05,
        adam_beta2=settings.adam_beta2,
        weight_decay=settings.weight_decay,
        max_grad_norm=1.0,
        blocks=1,
        monitors=0,
        monitor_rollouts=0,
    )
    trainer = OfflineTrainer(policy, Likelihood(), environment, examples, loop, seed, compute)
    trainer.train()
    return trainer
