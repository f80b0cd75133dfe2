"""PPO: episodes per second of the training loop, by precision, on one or several GPUs.

``python benchmarks/gpu/ppo.py`` trains in one process, ``torchrun --nproc-per-node 4
benchmarks/gpu/ppo.py`` in four; on a machine without GPU, a tiny model. 128 responses of 40 tokens
per iteration, 4 epochs, minibatches of 32: the loop of config/paper-sentiment.yaml, except that all
weights of the model are trained.
"""

import torch
from device import SHAPES, build, options, prompts, report, seconds, write
from torch import Tensor

from vbon.batches import Prompts, Rollouts
from vbon.methods.ppo import PPO
from vbon.planning.cost import Shape
from vbon.training import parallel
from vbon.training.compute import Compute
from vbon.training.online import OnlineSettings, OnlineTrainer
from vbon.training.trainer import Environment

TOKENS, ROLLOUTS, EPOCHS, MINIBATCH = 40, 128, 4, 32


def score(prompts: Prompts, rollouts: Rollouts) -> Tensor:
    """Number of even tokens: a reward that takes no time to compute."""
    return ((rollouts.response_ids % 2 == 0) & rollouts.response_mask).double().sum(1)


def trainer(shape: Shape, compute: Compute, iterations: int) -> OnlineTrainer:
    """Trainer of the benchmark's loop."""
    environment = Environment(
        prompts=prompts(512, shape),
        reference=build(shape, TOKENS).requires_grad_(False),
        score=score,
        cdf=None,
        eos_token_id=shape.vocab_size,
        max_new_tokens=TOKENS,
    )
    settings = OnlineSettings(
        iterations=iterations,
        rollouts=ROLLOUTS,
        draws_per_prompt=1,
        epochs=EPOCHS,
        minibatch=MINIBATCH,
        learning_rate=3e-5,
        schedule="constant",
        adam_beta2=0.95,
        weight_decay=1e-6,
        gamma=1.0,
        lam=0.95,
        clip_policy=0.2,
        clip_value=0.2,
        clip_reward=10.0,
        value_target="to_go",
        value_model="shared",
        value_trains_trunk=True,
        value_coef=1.0,
        max_grad_norm=None,
        whiten="minibatch",
        warm_start=0,
        warm_start_batch=128,
        warm_start_rate=0.002,
        tilt_floor=None,
        prompt_scale=0.0,
        reward_tail=0.0,
    )
    return OnlineTrainer(build(shape, TOKENS), PPO(kl_coef=0.05), environment, settings, 0, compute)


def main() -> None:
    """Time the loop and print the results."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--rows-per-pass", type=int, help="rows_per_pass of the config")
    args = parser.parse_args()
    if parallel.is_launched():
        parallel.join()
    shape, numbers = SHAPES[args.shape], {}
    passes = 2 + 3 * EPOCHS  # sampling, the reference, and three per update
    for precision in args.precision:
        loop = trainer(shape, Compute(precision, args.rows_per_pass), args.rounds + 1)
        rows = iter(loop)
        elapsed = seconds(lambda rows=rows: next(rows), args.rounds)
        length = loop.environment.prompts.ids.shape[1]
        flop = passes * shape.forward(ROLLOUTS, length, TOKENS) / parallel.count()
        read = shape.decoding_reads(ROLLOUTS / parallel.count(), 1, length, TOKENS)
        if parallel.is_main():
            numbers[precision] = report(precision, elapsed, ROLLOUTS, "episodes", flop, read)
            parts = {name: round(value, 2) for name, value in loop.seconds.items()}
            print(f"      {parallel.count()} processes; seconds of all rounds by part: {parts}")
    if parallel.is_main():
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
        write(args.out, {"shape": vars(shape), "memory": peak, **numbers})
    parallel.leave()


if __name__ == "__main__":
    main()
