"""PPO of TRL 0.11.4 on the shared workload, run by ``ppo.py`` in a separate environment.

Reads ``{"iterations": n}`` from standard input, trains for one warm-up iteration and n timed ones,
and answers with the time and the work counted.
"""

import json
import os
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import ppo_workload as workload
import torch
import trl
from common import (
    EOS,
    NEW_TOKENS,
    build_model,
    build_tokenizer,
    count_good_words,
    fingerprint,
    timed,
    use_one_core,
)
from torch.optim.optimizer import register_optimizer_step_post_hook
from trl import AutoModelForCausalLMWithValueHead, PPOConfig, PPOTrainer


class Peer:
    """The trainer, its prompts, and counters of the work it does."""

    def __init__(self) -> None:
        wrap = AutoModelForCausalLMWithValueHead.from_pretrained
        self.model = wrap(build_model(), summary_dropout_prob=0.0)
        reference = wrap(build_model(), summary_dropout_prob=0.0)
        self.tokenizer = build_tokenizer()
        config = PPOConfig(
            learning_rate=workload.LEARNING_RATE,
            batch_size=workload.ROLLOUTS,
            mini_batch_size=workload.MINIBATCH,
            ppo_epochs=workload.EPOCHS,
            init_kl_coef=workload.KL_COEF,
            adap_kl_ctrl=False,
            remove_unused_columns=False,
        )
        self.trainer = PPOTrainer(config, self.model, reference, self.tokenizer)
        self.prompts = [torch.tensor(prompt) for prompt in workload.prompts()]
        self.generator = torch.Generator().manual_seed(0)
        self.work = workload.Work()
        register_optimizer_step_post_hook(self._count_step)
        self.model.register_forward_pre_hook(self._count_forward, with_kwargs=True)

    def _count_step(self, *_: object) -> None:
        self.work.steps += 1

    def _count_forward(self, _module: object, _args: tuple, kwargs: dict) -> None:
        if torch.is_grad_enabled():
            rows, columns = kwargs["input_ids"].shape
            self.work.add_training(rows, columns)

    def iterate(self) -> None:
        """One iteration as TRL's examples write it: generate, decode, score, step."""
        indices = torch.randperm(len(self.prompts), generator=self.generator)[: workload.ROLLOUTS]
        queries = [self.prompts[index] for index in indices.tolist()]
        responses = self.trainer.generate(
            queries,
            return_prompt=False,
            batch_size=workload.ROLLOUTS,
            do_sample=True,
            top_k=0,
            top_p=1.0,
            max_new_tokens=NEW_TOKENS,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        rewards = count_good_words(self.tokenizer.batch_decode(responses))
        stats = self.trainer.step(queries, responses, [torch.tensor(reward) for reward in rewards])
        self.work.add_rollouts(list(map(len, queries)), list(map(len, responses)))
        self.work.kl = float(stats["objective/kl"])

    def round(self, iterations: int) -> dict:
        """Train for one warm-up iteration, then for ``iterations`` that are timed and counted."""
        self.iterate()
        self.work = workload.Work()
        with timed() as elapsed:
            for _ in range(iterations):
                self.iterate()
        return elapsed | {"work": self.work.as_dict()}


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keep the output of libraries apart from the answers
    warnings.simplefilter("ignore")
    use_one_core()
    peer = Peer()
    facts = {"version": trl.__version__, "fingerprint": fingerprint(build_model()), "eos": EOS}
    print(json.dumps(facts), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(peer.round(json.loads(line)["iterations"])), file=answers, flush=True)


if __name__ == "__main__":
    main()
