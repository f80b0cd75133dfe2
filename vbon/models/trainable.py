"""Trainable part of a policy: every parameter, the last blocks, or low-rank updates.

The choice determines which distributions a method can reach, so a fair comparison keeps it fixed.
In any case the policy keeps its class, and :func:`merged` returns a plain model.
"""

import copy

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from vbon.errors import ConfigError
from vbon.models.tabular import TabularLM
from vbon.seeding import derive_seed

CAPACITY = ("trainable", "top_k", "lora_rank", "lora_alpha")
"""Settings of a training loop that are arguments of :func:`make_trainable`."""


def make_trainable(
    policy: PreTrainedModel,
    trainable: str = "all",
    *,
    top_k: int = 1,
    lora_rank: int = 8,
    lora_alpha: float = 16,
    seed: int = 0,
) -> PreTrainedModel:
    r"""Choose, in place, which parameters of a policy are trained; its outputs do not change.

    With ``top_k`` the embeddings, the lower blocks and the output layer are frozen, so they remain
    equal to those of the reference, bit by bit. With ``lora`` each linear layer :math:`W` of every
    block computes :math:`W x + \frac{\alpha}{r} B A x`, where :math:`B` starts at 0 and only
    :math:`A` and :math:`B`, of rank :math:`r`, are trained.

    References:
        LoRA: Low-Rank Adaptation of Large Language Models, arXiv:2106.09685.

    Args:
        policy: Any causal language model, a copy of the reference.
        trainable: ``all`` (every parameter), ``top_k`` (the last blocks and the final norm) or
            ``lora`` (low-rank updates of the blocks' linear layers).
        top_k: For ``top_k``: number of blocks trained.
        lora_rank: For ``lora``: rank of the updates.
        lora_alpha: For ``lora``: the update is scaled by ``lora_alpha / lora_rank``.
        seed: For ``lora``: seed of the initial values; global generators keep their state.

    Returns:
        The same object.

    Raises:
        ConfigError: If the choice does not fit the model.

    Example:
        >>> import copy
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> size = {"vocab_size": 10, "n_positions": 8, "n_embd": 8, "n_layer": 3, "n_head": 2}
        >>> reference = GPT2LMHeadModel(GPT2Config(**size))
        >>> every = count_trainable(reference)
        >>> count_trainable(make_trainable(copy.deepcopy(reference), "top_k", top_k=1))
        888
        >>> policy = make_trainable(reference, "lora", lora_rank=2, lora_alpha=4)
        >>> count_trainable(policy), every
        (768, 2776)
    """
    if trainable == "all":
        return policy.requires_grad_(True)
    if isinstance(policy, TabularLM):
        raise ConfigError(
            f"trainable is {trainable!r}, which needs blocks, and a tabular model has none; set "
            "trainable: all"
        )
    if trainable == "top_k":
        return _train_top(policy, top_k)
    return _add_lora(policy, lora_rank, lora_alpha, seed)


def merged(policy: PreTrainedModel) -> PreTrainedModel:
    """The policy as a plain model of the reference's class, to save and evaluate.

    Low-rank updates are merged into the weights of a copy, so that training of the policy itself
    can continue. A policy without them is returned unchanged.

    Example:
        ``merged(policy).save_pretrained(folder)``
    """
    if not hasattr(policy, "peft_config"):
        return policy
    from peft.tuners.lora import LoraLayer

    for module in policy.modules():  # some keep the states of their last pass, with a graph
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                setattr(module, name, value.detach())
    plain = copy.deepcopy(policy)
    for name, module in list(plain.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            plain.set_submodule(name, module.get_base_layer())
    del plain.peft_config
    return plain


def count_trainable(policy: nn.Module) -> int:
    """Number of trainable scalar parameters; tied ones count once."""
    return sum(parameter.numel() for parameter in policy.parameters() if parameter.requires_grad)


def _blocks(policy: PreTrainedModel) -> tuple[str, nn.Module, nn.ModuleList]:
    """The transformer blocks: dotted name of the list, the module that owns it, and the list."""
    config = policy.config.get_text_config(decoder=True)
    count = getattr(config, "decoder_layers", None) or config.num_hidden_layers
    for owner_name, owner in policy.named_modules():
        for name, child in owner.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == count:
                return f"{owner_name}.{name}".lstrip("."), owner, child
    raise ConfigError(
        f"trainable: {type(policy).__name__} has no list of its {count} blocks; set trainable: all"
    )


def _train_top(policy: PreTrainedModel, top_k: int) -> PreTrainedModel:
    """Freeze everything except the last blocks and the norm that follows them."""
    _, owner, blocks = _blocks(policy)
    if not 1 <= top_k <= len(blocks):
        count = len(blocks)
        raise ConfigError(
            f"top_k is {top_k}; the model has {count} blocks, so it must be from 1 to {count}"
        )
    policy.requires_grad_(False)
    blocks[-top_k:].requires_grad_(True)
    for name, child in owner.named_children():
        # The owner of the blocks also has the final norm; some models also norm embeddings.
        if "norm" in type(child).__name__.lower() and "embed" not in name:
            child.requires_grad_(True)
    return policy


def _add_lora(policy: PreTrainedModel, rank: int, alpha: float, seed: int) -> PreTrainedModel:
    """Freeze the model and wrap the linear layers of its blocks."""
    prefix, _, blocks = _blocks(policy)
    linear = {
        f"{prefix}.{name}": module
        for name, module in blocks.named_modules()
        # Routers of experts are linear layers that return more; dt_proj of mamba layers has weights
        # that are read without calling it.
        if type(module).forward in (nn.Linear.forward, Conv1D.forward)
        and not name.endswith("dt_proj")
    }
    from peft import LoraConfig, inject_adapter_in_model  # slow to import

    adapter = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=list(linear),
        # Conv1D keeps its weight as [in, out], a linear layer as [out, in].
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in linear.values()),
    )
    # The library creates new layers on the processor and draws from its global generator.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "lora"))
        try:
            inject_adapter_in_model(adapter, policy)
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"trainable: 'lora' is not possible for {type(policy).__name__} ({reason}); set "
                "trainable: all or top_k"
            ) from error
    # The wrappers are new modules, which start in training mode.
    return policy.train(policy.training)
