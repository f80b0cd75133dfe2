"""Token ids of prompts, with the special tokens that the tokenizer's own template puts first.

Special tokens that a template puts after a text (T5, BERT) are left out: the response follows.
"""

from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from typing import Any

from vbon.errors import ConfigError, DataError
from vbon.models.chat import template_fault

NO_TEMPLATE = (
    "prompts.chat: true needs a chat template, which the reference's tokenizer lacks; give "
    "chat: false, or a reference that was trained on conversations"
)
_PLAIN = {"add_special_tokens": False, "verbose": False}  # it may be longer than the model


def first_ids(tokenizer: Any) -> list[int]:
    """Ids that a tokenizer puts before every text: often that of BOS, or none.

    Example:
        >>> from vbon.models.build import build_tokenizer
        >>> first_ids(build_tokenizer(["a film"], vocab_size=10))
        []
        >>> len(first_ids(build_tokenizer(["a film"], vocab_size=10, classifier=True)))  # <cls>
        1
    """
    for text in _samples(tokenizer):
        ids, complete = tokenizer(text, **_PLAIN)["input_ids"], tokenizer(text)["input_ids"]
        for start in range(len(complete) - len(ids) + 1) if ids else ():
            if complete[start : start + len(ids)] == ids:
                return complete[:start]
    return []


def _samples(tokenizer: Any) -> Iterator[str]:
    """Short texts, of which a tokenizer must know one."""
    yield "a"
    yield from islice(tokenizer.get_vocab(), 100)


def begun(ids: Sequence[int], first: Sequence[int]) -> list[int]:
    """Ids of a text after the special tokens, which are not repeated if it contains them.

    Example:
        >>> begun([5, 6], [1]), begun([1, 5, 6], [1]), begun([5], [])
        ([1, 5, 6], [1, 5, 6], [5])
    """
    return list(ids) if list(ids[: len(first)]) == list(first) else [*first, *ids]


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text that a response continues."""
    return begun(tokenizer(text, **_PLAIN)["input_ids"], first_ids(tokenizer))


def chat_ids(tokenizer: Any, messages: list[dict[str, Any]], place: str) -> list[int]:
    """Token ids of a conversation that a response answers, rendered by the chat template.

    Args:
        tokenizer: A Hugging Face tokenizer.
        messages: Role and content of each turn, and what else its template may read.
        place: Where the conversation is, for errors.

    Raises:
        ConfigError: If the tokenizer has no chat template.
        DataError: If the template fails on the messages.
    """
    if not tokenizer.chat_template:
        raise ConfigError(NO_TEMPLATE)
    try:
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    except Exception as error:  # a template may raise anything
        fault = template_fault(error, messages)
        raise DataError(f"{place}: the reference's chat template {fault}") from error
    first = first_ids(tokenizer)
    while first and ids[: 2 * len(first)] == 2 * first:  # of the template, and of a message
        ids = ids[len(first) :]
    return ids


def beginning(tokenizer: Any, ids: Sequence[int]) -> str:
    """Special tokens that a prompt begins with, as text; empty without any.

    Example:
        >>> from vbon.models.build import build_tokenizer
        >>> tokenizer = build_tokenizer(["a film"], vocab_size=10, classifier=True)
        >>> beginning(tokenizer, tokenizer("a film")["input_ids"])
        '<cls>'
    """
    added = tokenizer.added_tokens_decoder
    special = {*tokenizer.all_special_ids, *(i for i in added if added[i].special)}
    special.discard(tokenizer.unk_token_id)
    return "".join(tokenizer.convert_ids_to_tokens(list(takewhile(special.__contains__, ids))))
