"""Prompts that a model may not read as they are meant, each with a caution."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

Messages = Sequence[Mapping[str, Any]]
_ANSWER = "answer"


def cautions_of(
    tokenizer: Any, ids: Sequence[int], messages: Messages | None = None
) -> dict[str, str]:
    """Cautions about a prompt, by name: the words that follow "prompts" in a warning.

    Args:
        tokenizer: Tokenizer of the reference.
        ids: Token ids of the prompt.
        messages: The conversation that its chat template has rendered, if it is one.

    Example:
        >>> from vbon.models.build import build_tokenizer
        >>> tokenizer = build_tokenizer(["a film"], kind="words", vocab_size=10)
        >>> cautions_of(tokenizer, tokenizer("some plot")["input_ids"])
        {'of_unknown_tokens': "consist of tokens that the reference's tokenizer does not know"}
    """
    cautions = {} if messages is None else _of_template(tokenizer, messages)
    if messages is not None:
        ids = tokenizer(messages[-1].get("content", ""), add_special_tokens=False)["input_ids"]
    unknown = tokenizer.unk_token_id
    if {*ids} - ({*tokenizer.all_special_ids} - {unknown}) == {unknown}:
        cautions["of_unknown_tokens"] = (
            "consist of tokens that the reference's tokenizer does not know"
        )
    return cautions


def _of_template(tokenizer: Any, messages: Messages) -> dict[str, str]:
    """Cautions about a conversation in its chat template, found by rendering it."""

    def rendered(turns: Messages = messages, begun: bool = True, year: int = 2001) -> str | None:
        options = {"add_generation_prompt": begun, "strftime_now": datetime(year, 1, 1).strftime}
        try:
            return tokenizer.apply_chat_template(turns, tokenize=False, **options)
        except Exception:  # a template may raise anything, such as for a message without a key
            return None

    text, cautions = rendered() or "", {}
    if rendered(year=2002) != text:
        cautions["with_the_time"] = (
            "contain the time, which the reference's chat template writes (strftime_now), so "
            "prompts made at another time differ"
        )
    answered = rendered([*messages, {"role": "assistant", "content": _ANSWER}], begun=False) or ""
    begins = answered.startswith(text) and answered[len(text) :].lstrip().startswith(_ANSWER)
    if rendered(begun=False) == text and not begins:
        cautions["that_begin_no_answer"] = (
            f"end with {text[-30:]!r}, since the reference's chat template ignores "
            "add_generation_prompt, so the model may continue that message and not answer it"
        )
    unread = [
        key
        for key in dict.fromkeys(key for turn in messages for key in turn)
        if key not in ("role", "content")
        and rendered([{k: v for k, v in turn.items() if k != key} for turn in messages]) == text
    ]
    if unread:
        cautions["with_unread_keys"] = (
            f"have {', '.join(unread)} in messages, which the reference's chat template does not "
            "read"
        )
    return cautions


def counted(cautions: Sequence[Mapping[str, str]], split: str) -> list[str]:
    """A warning per kind of caution, with the number of prompts and the words of the first.

    Example:
        >>> counted([{}, {"odd": "are odd"}, {"odd": "are odd"}], "train")
        ['2 of 3 train prompts are odd']
    """
    counts = Counter(name for each in cautions for name in each)
    words = {name: text for each in reversed(cautions) for name, text in each.items()}
    return [
        f"{count} of {len(cautions)} {split} prompts {words[name]}"
        for name, count in counts.items()
    ]
