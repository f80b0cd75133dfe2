"""Program of each process in tests/training/test_parallel.py: train, then save the results."""

import sys

import torch
from support import Language, make_gpt2, offline_settings, settings

from vbon.methods.registry import get_method
from vbon.models.trainable import make_trainable
from vbon.training import parallel
from vbon.training.anchored import make_online_trainer
from vbon.training.compute import PLAIN, Compute
from vbon.training.offline import OfflineTrainer

SMALL = {"iterations": 2, "rollouts": 20, "draws_per_prompt": 4, "learning_rate": 1e-3}
# Five draws from two prompts, so that one is drawn more often; the last minibatch has 2 or 1 rows.
ONLINE = {
    "ppo": ({"kl_coef": 0.5}, {"minibatch": 9, "epochs": 2, "whiten": "minibatch"}, PLAIN),
    "vbon": ({"n": 4}, {"minibatch": 19, "value_model": "separate"}, Compute(rows_per_pass=3)),
    "bond": ({"updates": 2}, {"minibatch": 20, "max_grad_norm": 0.1}, PLAIN),
}
OFFLINE = {"dpo": {"kl_coef": 0.5}, "bonbon": {"n": 3}}


def double(requires_grad=True):
    """A policy in float64, so that another order of additions makes little difference."""
    return make_gpt2(vocab_size=4, eos_token_id=3).double().requires_grad_(requires_grad)


def trainers():
    """Yield trainers with their names."""
    language = Language()
    environment = language.environment(
        reference=double(False), evaluator=language.score, monitored=5
    )
    for name, (values, changes, compute) in ONLINE.items():
        method, config = get_method(name)(**values), settings(**(SMALL | changes))
        yield name, make_online_trainer(double(), method, environment, config, 0, compute)
    lora = make_trainable(double(), "lora", lora_rank=2, lora_alpha=4)
    method, config = get_method("rloo")(kl_coef=0.5), settings(**SMALL)
    yield "rloo", make_online_trainer(lora.double(), method, environment, config, 0)
    for name, values in OFFLINE.items():
        method = get_method(name)(**values)
        config = offline_settings(batch_size=7, monitors=2, learning_rate=1e-3)
        parts = environment, language.examples(method.pairing), config, 0
        yield name, OfflineTrainer(double(), method, *parts)


def trained():
    """Weights and history of each method."""
    results = {}
    for name, trainer in trainers():
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in trainer]
        results[name] = {
            "weights": torch.cat([part.detach().flatten() for part in trainer._parameters]),
            "rows": rows,
            "tokens": trainer.sampled_tokens,
        }
    return results


if __name__ == "__main__":
    torch.set_num_threads(1)
    parallel.join()
    results = parallel.gathered(trained)
    if parallel.is_main():
        torch.save(results, sys.argv[1])
    parallel.leave()
