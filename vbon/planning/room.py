"""Room for prompts and responses in the contexts of models, and how prompts begin."""

from collections.abc import Mapping
from typing import Any

from vbon.errors import ConfigError
from vbon.models.chat import template_fault
from vbon.models.context import context_length
from vbon.planning.cost import config_at_hand
from vbon.tasks.base import ROLES, TextTask
from vbon.tasks.cautions import cautions_of
from vbon.tasks.registry import make_task
from vbon.tasks.special_tokens import NO_TEMPLATE, beginning, first_ids


def check_room(config: Mapping[str, Any]) -> list[str]:
    """Refuse references whose context is too short for a prompt and a response.

    Models that are built here are checked with their section, and those that are not on this
    machine when responses are drawn.

    Args:
        config: A resolved configuration.

    Returns:
        Warnings for reward models that would cut some texts, one line each.

    Raises:
        ConfigError: If a reference is too short, or has no chat template that prompts need.
    """
    lines = []
    for task in config["tasks"]:
        section = config[task]
        if not isinstance(make_task(section), TextTask):
            continue
        counts = section["prompts"]["max_tokens"], section["sampling"]["max_new_tokens"]
        for role in ROLES:
            model = config_at_hand(section[role], f"{task}.{role}")
            limit = None if model is None else context_length(model)
            if limit is None or limit >= sum(counts):
                continue
            name = section[role]["id"] or section[role].get("gguf")
            if role == "reference":
                raise ConfigError(
                    f"{task}.reference: {name} has a context of {limit} tokens, too few for "
                    f"{task}.prompts.max_tokens = {counts[0]} and {task}.sampling.max_new_tokens = "
                    f"{counts[1]} together; lower one of them, or give another reference"
                )
            lines.append(
                f"{task}.{role}: {name} reads {limit} tokens, and prompts with their responses may "
                f"have {sum(counts)}; longer ones are cut"
            )
    return lines


def beginnings(task: str, section: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Beginnings of prompts, if the reference's tokenizer is at hand, and cautions of its template.

    Returns:
        A line that names the special tokens of prompts, and warnings, one line each.

    Raises:
        ConfigError: If conversations need a chat template that it lacks.
    """
    reference, settings = section.get("reference", {}), section.get("prompts", {})
    if reference.get("id") is None or reference.get("gguf_file") is not None:
        return [], []
    from transformers import AutoTokenizer

    options = {"revision": reference["revision"], "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            reference["id"], trust_remote_code=False, **options
        )
    except Exception:  # the library raises many kinds; loading the model gives the reason
        return [], []
    if settings.get("chat"):
        if not tokenizer.chat_template:
            raise ConfigError(f"{task}.{NO_TEMPLATE}")
        line = f"{task}: prompts begin as the reference's chat template says"
        return [line], _cautions(task, tokenizer, settings["system"])
    first = beginning(tokenizer, first_ids(tokenizer)) or "no special token"
    return [f"{task}: prompts begin with {first}"], []


def _cautions(task: str, tokenizer: Any, system: str | None) -> list[str]:
    """Cautions about a short conversation in the chat template, one line each."""
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": next(iter(tokenizer.get_vocab()))})
    try:
        tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    except Exception as error:  # a template may raise anything
        return [f"{task}: the reference's chat template {template_fault(error, messages)}"]
    cautions = cautions_of(tokenizer, [], messages)
    return [f"{task}: prompts {words}" for words in cautions.values()]
