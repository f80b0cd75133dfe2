"""Tokenizers of the embedded task, whose tokens include their leading space."""

import itertools
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers import models as token_models
from tokenizers import trainers as token_trainers
from transformers import PreTrainedTokenizerFast

from vbon.errors import ConfigError

PAD, UNKNOWN, END, FIRST, LAST = "<pad>", "<unk>", "<eos>", "<cls>", "<sep>"
_WORD = Regex(r" ?\w+| ?[^\w\s]+|\s+")


def build_tokenizer(
    texts: Iterable[str],
    kind: str = "words",
    vocab_size: int = 512,
    max_tokens: int = 96,
    classifier: bool = False,
    side: str = "right",
    fill: bool = False,
) -> PreTrainedTokenizerFast:
    """Build a tokenizer whose tokens include their leading space.

    Decoding is therefore concatenation: ``decode(prompt) + decode(response)`` is the text of both.

    Args:
        texts: Training texts of the tokenizer's model.
        kind: ``"words"`` (words and punctuation; rare ones are unknown) or ``"bpe"`` (byte-level
            pairs; none is unknown).
        vocab_size: Maximum size of the vocabulary, special tokens included.
        max_tokens: The tokenizer's ``model_max_length``.
        classifier: If True, texts are framed as ``<cls> text <sep>``; otherwise nothing is added,
            and the vocabulary has ``<eos>`` for the language model.
        side: Side on which texts are padded and cut; ``left`` for prompts, whose end matters most
            and which a model continues in batches.
        fill: Fill the vocabulary of words up to ``vocab_size`` with words that no text has.

    Returns:
        A fast tokenizer with distinct padding, end (or frame) and, for words, unknown tokens.

    Raises:
        ConfigError: If the vocabulary is too small, or ``fill`` is used with
            another kind than ``"words"``.

    Example:
        >>> texts = ["the plot is weak, but the cast shines.", "what a mess!"]
        >>> tokenizer = build_tokenizer(texts, vocab_size=64)
        >>> ids = tokenizer(texts[0])["input_ids"]
        >>> len(ids), tokenizer.decode(ids) == texts[0]
        (10, True)
        >>> tokenizer.pad_token_id != tokenizer.eos_token_id
        True
    """
    special = [PAD, UNKNOWN, *([FIRST, LAST] if classifier else [END])]
    smallest = len(special) + (256 if kind == "bpe" else 1)
    if vocab_size < smallest:
        raise ConfigError(
            f"tokenizer.vocab_size is {vocab_size}; {kind!r} needs at least {smallest}"
        )
    if kind == "words":
        core = Tokenizer(token_models.WordLevel(unk_token=UNKNOWN))
        core.pre_tokenizer = pre_tokenizers.Split(_WORD, "isolated")
        core.decoder = decoders.Fuse()
        trainer = token_trainers.WordLevelTrainer(
            vocab_size=vocab_size, special_tokens=special, show_progress=False
        )
    else:
        core = Tokenizer(token_models.BPE())
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        trainer = token_trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    if fill:
        if kind != "words":
            raise ConfigError(
                f"tokenizer.fill is true with tokenizer.kind {kind!r}; only 'words' can be filled"
            )
        texts = itertools.chain(texts, (f" madeup{number}" for number in range(vocab_size)))
    core.train_from_iterator(texts, trainer)
    if classifier:
        frame = [(token, core.token_to_id(token)) for token in (FIRST, LAST)]
        core.post_processor = processors.TemplateProcessing(
            single=f"{FIRST} $A {LAST}", special_tokens=frame
        )
    names = {"cls_token": FIRST, "sep_token": LAST} if classifier else {"eos_token": END}
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNKNOWN,
        model_max_length=max_tokens,
        padding_side=side,
        truncation_side=side,
        clean_up_tokenization_spaces=False,
        **names,
    )
