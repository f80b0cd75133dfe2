"""Training of an offline trainer's policy by TRL's ``SFTTrainer`` and ``DPOTrainer``.

They are used unchanged if their loss is the method's; otherwise a subclass of ``DPOTrainer``
replaces the loss. Examples are token ids, because both trainers would append an end-of-sequence
token to every text.
"""

import tempfile
from typing import Any

from datasets import Dataset
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from vbon.batches import OfflineBatch
from vbon.training.offline import OfflineTrainer


def train(native: OfflineTrainer, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, float]]:
    """Train the policy of a trainer with TRL's loop instead of its own: the same updates.

    Args:
        native: Untrained trainer at temperature 1, whose optimiser is used.
        tokenizer: Only its padding and end tokens are used.

    Returns:
        ``objective`` and ``grad_norm`` of each update.
    """
    settings, name = native.settings, native.method.name
    for group in native._optimizer.param_groups:
        group["lr"] = settings.learning_rate
    schedule = LambdaLR(native._optimizer, lambda step: settings.rate(step, native.total))
    arguments = {
        "per_device_train_batch_size": settings.batch_size,
        "num_train_epochs": 1,  # the examples are laid out epoch after epoch
        "train_sampling_strategy": "sequential",
        "max_grad_norm": settings.max_grad_norm or 0.0,
        "max_length": None,
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": native.policy.device.type == "cpu",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "seed": native.seed,
    }
    kind, config = _DPO, DPOConfig
    if name == "bon_sft":
        kind, config = _SFT, SFTConfig
    else:
        arguments |= {"precompute_ref_log_probs": True, "disable_dropout": True}
    if name == "dpo":
        arguments |= {"loss_type": ["sigmoid"], "beta": native.method.kl_coef}
    elif name != "bon_sft":
        kind = _OtherLoss
    with tempfile.TemporaryDirectory() as folder:
        trainer = kind(
            model=native.policy,
            args=config(output_dir=folder, **arguments),
            train_dataset=Dataset.from_dict(_columns(native)),
            processing_class=tokenizer,
            optimizers=(native._optimizer, schedule),
        )
        trainer.native, trainer.rows = native, []
        trainer.train()
    native.policy.__dict__.pop("forward", None)  # TRL sets it on the instance
    native.policy.eval()
    return trainer.rows


def _columns(native: OfflineTrainer) -> dict[str, list[Any]]:
    """Columns of the data set: examples as token ids, in the order of training."""
    examples, prompts = native.examples, native.environment.prompts.id_lists()
    chosen, rejected = examples.chosen[native.order], examples.rejected[native.order]

    def ids(rows: Tensor) -> list[list[int]]:
        return [examples.response_ids[row, : examples.lengths[row]].tolist() for row in rows]

    prompt_ids = [prompts[index] for index in examples.prompt_index[chosen]]
    if not native.method.contrastive:
        joined = list(zip(prompt_ids, ids(chosen), strict=True))
        return {
            "input_ids": [prompt + response for prompt, response in joined],
            "labels": [[-100] * len(prompt) + response for prompt, response in joined],
        }
    return {
        "prompt_ids": prompt_ids,
        "chosen_ids": ids(chosen),
        "rejected_ids": ids(rejected),
        "ref_chosen_logps": examples.log_prob_ref[chosen].tolist(),
        "ref_rejected_logps": examples.log_prob_ref[rejected].tolist(),
    }


class _Recorded:
    """Mixin that records the loss and the gradient norm of each update."""

    native: OfflineTrainer
    rows: list[dict[str, float]]

    def training_step(self, *arguments: Any, **named: Any) -> Tensor:
        loss = super().training_step(*arguments, **named)
        self.rows.append({"objective": -loss.item()})
        return loss

    def _get_grad_norm(self, *arguments: Any, **named: Any) -> Any:
        grad_norm = super()._get_grad_norm(*arguments, **named)
        self.rows[-1]["grad_norm"] = float(grad_norm)
        return grad_norm


class _SFT(_Recorded, SFTTrainer):
    """TRL's supervised fine-tuning on responses only."""


class _DPO(_Recorded, DPOTrainer):
    """TRL's DPO on token ids, with the reference's stored log-probs."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


class _OtherLoss(_DPO):
    """TRL's DPO with the method's loss."""

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Tensor:
        mask = inputs["completion_mask"]
        labels = inputs["input_ids"].masked_fill(mask == 0, -100)
        named = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        log_probs = model(**named, labels=labels, fused_lm_head=True).log_probs.sum(1)
        chosen, rejected = log_probs.chunk(2)
        theirs = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        lengths, mean_nll = mask.sum(1).chunk(2)[0], self.native.examples.mean_nll
        batch = OfflineBatch(chosen, theirs[0], lengths, mean_nll, rejected, theirs[1])
        return self.native.method.batch_loss(batch)
