"""The training of offline methods by TRL, whose trainers do the same updates in the same order.

``SFTTrainer`` and ``DPOTrainer`` are used as they are where their loss is the method's; any other
loss takes its place in a subclass of the latter. Examples are given as token ids, because both
would otherwise append an end-of-sequence token to every response. Importing this loads TRL.
"""

import tempfile
import time
from collections.abc import Iterator
from typing import Any

import torch
from datasets import Dataset
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from vbon.errors import ConfigError
from vbon.training.offline import OfflineTrainer, statistics_of, summary


class TRLTrainer(OfflineTrainer):
    """:class:`vbon.training.offline.OfflineTrainer` with TRL's loop in place of its own.

    Args:
        *arguments: As there.
        tokenizer: The reference's; only its padding and end tokens are looked at.

    Raises:
        ConfigError: If the policy has no output layer that TRL could use, or the temperature is
            not 1, which its losses do not know.
    """

    def __init__(self, *arguments: Any, tokenizer: PreTrainedTokenizerBase, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._tokenizer = tokenizer
        if self.environment.temperature != 1:
            raise ConfigError(
                f"sampling.temperature: {self.environment.temperature} is not allowed with "
                "offline.trainer: trl, whose losses are those at 1; give trainer: native"
            )
        if self.policy.get_output_embeddings() is None:
            raise ConfigError(
                f"offline.trainer: 'trl' cannot train a {type(self.policy).__name__}, which has "
                "no output layer; give trainer: native"
            )

    def __iter__(self) -> Iterator[dict[str, float]]:
        """As in the base class; the rows come when all of the training is done."""
        recorder = _Recorder(self)
        with tempfile.TemporaryDirectory() as folder:
            trainer = self._make_trainer(folder)
            trainer.recorder = recorder
            trainer.add_callback(recorder)
            try:
                trainer.train()
            finally:
                self.policy.__dict__.pop(
                    "forward", None
                )  # TRL puts its own in front of the class's
                self.policy.eval()
        yield from recorder.rows

    def _make_trainer(self, folder: str) -> Any:
        settings, contrastive = self.settings, self.method.trl != "sft"
        arguments = {
            "output_dir": folder,
            "per_device_train_batch_size": settings.batch_size,
            "num_train_epochs": 1,  # the examples are laid out epoch after epoch
            "train_sampling_strategy": "sequential",
            "max_grad_norm": settings.max_grad_norm or 0.0,
            "max_length": None,
            "bf16": False,
            "gradient_checkpointing": False,
            "use_cpu": self.policy.device.type == "cpu",
            "save_strategy": "no",
            "logging_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            "seed": self.seed,
        }
        shared = {
            "model": self.policy,
            "train_dataset": Dataset.from_dict(self._columns(contrastive)),
            "processing_class": self._tokenizer,
            "optimizers": (self._optimizer, self._schedule),
        }
        if not contrastive:
            return _SFT(args=SFTConfig(**arguments), **shared)
        arguments |= {"precompute_ref_log_probs": True, "disable_dropout": True}
        if self.method.trl is not None:
            options = {"loss_type": [self.method.trl], "beta": self.method.kl_coef}
            return _DPO(args=DPOConfig(**arguments, **options), **shared)
        trainer = _OwnLoss(args=DPOConfig(**arguments), **shared)
        trainer.ours = self
        return trainer

    def _columns(self, contrastive: bool) -> dict[str, list[Any]]:
        """Examples in the order of training, as token ids."""
        examples, order = self.examples, self.order
        prompts = self._prompt_ids(examples.prompt_index[examples.chosen[order]])
        chosen = self._response_ids(examples.chosen[order])
        if not contrastive:
            joined = list(zip(prompts, chosen, strict=True))
            return {
                "input_ids": [prompt + response for prompt, response in joined],
                "labels": [[-100] * len(prompt) + response for prompt, response in joined],
            }
        rejected = examples.rejected[order]
        return {
            "prompt_ids": prompts,
            "chosen_ids": chosen,
            "rejected_ids": self._response_ids(rejected),
            "ref_chosen_logps": examples.log_prob_ref[examples.chosen[order]].tolist(),
            "ref_rejected_logps": examples.log_prob_ref[rejected].tolist(),
        }

    def _prompt_ids(self, index: Int[Tensor, " rows"]) -> list[list[int]]:
        prompts = self.environment.prompts
        lengths = prompts.lengths[index].tolist()
        return [row[:n] for row, n in zip(prompts.ids[index].tolist(), lengths, strict=True)]

    def _response_ids(self, index: Int[Tensor, " rows"]) -> list[list[int]]:
        ids, lengths = self.examples.response_ids[index], self.examples.lengths[index].tolist()
        return [row[:n] for row, n in zip(ids.tolist(), lengths, strict=True)]


class _Recorder(TrainerCallback):
    """Counts updates, measures the policy when it is due, and keeps the rows of the history."""

    def __init__(self, trainer: "TRLTrainer") -> None:
        self._trainer, self._ends = trainer, trainer.ends()
        self._begun = self._since = time.perf_counter()
        self._statistics: list[Tensor] = []
        self.loss = torch.zeros(())
        self.rows: list[dict[str, float]] = []

    def record(self, grad_norm: Tensor | float) -> None:
        """Keep the numbers of an update that is about to be made."""
        ours, norm = self._trainer, torch.as_tensor(grad_norm)
        ours.check(self.loss, norm)
        self._statistics.append(statistics_of(self.loss, norm, ours.limit))

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """One update has been made."""
        ours = self._trainer
        ours.updates += 1
        ours.episodes = min(ours.updates * ours.settings.batch_size, len(ours.order))
        if ours.updates != self._ends[len(self.rows)]:
            return
        ours.seconds["update"] += time.perf_counter() - self._since
        row = summary(self._statistics) | {"step": len(self.rows), "episodes": ours.episodes}
        row |= {"learning_rate": ours.learning_rate, **ours.measure()}
        self.rows.append(row | {"seconds": time.perf_counter() - self._begun})
        self._statistics, self._since = [], time.perf_counter()


class _Recorded:
    """Tells the recorder of each update's loss and gradient norm."""

    recorder: _Recorder

    def training_step(self, *arguments: Any, **named: Any) -> Tensor:
        self.recorder.loss = super().training_step(*arguments, **named)
        return self.recorder.loss

    def _get_grad_norm(self, *arguments: Any, **named: Any) -> Any:
        grad_norm = super()._get_grad_norm(*arguments, **named)
        self.recorder.record(grad_norm)
        return grad_norm


class _SFT(_Recorded, SFTTrainer):
    """TRL's supervised fine-tuning on responses only."""


class _DPO(_Recorded, DPOTrainer):
    """TRL's DPO on token ids, with the reference's log-probs as they are stored."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


class _OwnLoss(_DPO):
    """TRL's DPO with the method's loss."""

    ours: TRLTrainer

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Tensor:
        mask = inputs["completion_mask"]
        labels = inputs["input_ids"].masked_fill(mask == 0, -100)
        named = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        log_probs = model(**named, labels=labels, fused_lm_head=True).log_probs.sum(1)
        theirs = torch.cat((inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]))
        lengths, count = mask.sum(1), len(mask)
        if not self.ours.method.contrastive:
            count //= 2
        batch = self.ours.assemble(log_probs[:count], theirs[:count], lengths[:count])
        return self.ours.method.batch_loss(batch)
