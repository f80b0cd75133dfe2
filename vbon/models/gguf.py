"""GGUF files: a quantised language model, dequantised once into an ordinary folder in float32.

The loader of transformers reads some properties of an architecture and takes defaults for others.
Those that the file states are set here, and a file with tensors or scales that would be left out is
refused.
"""

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vbon.errors import DataError

_EPSILON = ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_epsilon", "norm_eps")
_ATTRIBUTES = {
    "context_length": ("n_positions",),
    "attention.key_length": ("head_dim",),
    "attention.layer_norm_epsilon": _EPSILON,
    "attention.layer_norm_rms_epsilon": _EPSILON,
    "attention.sliding_window": ("sliding_window",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
}
"""Attributes of a configuration, as far as its class has them, by the key of a file."""
_BIASES = {"attention_bias": ("attn_q.bias", "attn_qkv.bias"), "mlp_bias": ("ffn_up.bias",)}
_SPECIAL = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
_UNREAD = ("logit_scale", "embedding_scale", "residual_scale", "attention.scale")
"""Keys that change the arithmetic and that no configuration of a supported architecture has."""
_ROPE = "rope_freqs.weight"
_PLAIN = (None, "default", "gpt-2", "phi-2")
"""Ways to split texts into words that are GPT-2's."""
_DIGITS = ("smollm", "starcoder", "refact", "codeshell", "command-r", "exaone")
"""Ways to split that are GPT-2's after each digit has become a word of its own."""
_WHOLE_WORDS = ("llama3", "llama-v3", "llama-bpe", "falcon3", "tekken")
"""Vocabularies in which a word that is a token is not split, and texts begin with BOS."""


@dataclass(frozen=True)
class Header:
    """Everything in a GGUF file except the weights.

    Attributes:
        path: The file.
        fields: Values by key.
        tensors: Name of the type and number of weights of each tensor, by name.
    """

    path: Path
    fields: dict[str, Any]
    tensors: dict[str, tuple[str, int]]

    def get(self, name: str, default: Any = None) -> Any:
        """Value of a key of the architecture."""
        return self.fields.get(f"{self.fields['general.architecture']}.{name}", default)

    @property
    def description(self) -> str:
        """Types of the weights, in words.

        Example:
            >>> tensors = {"a": ("Q8_0", 3072), "b": ("F32", 1024)}
            >>> Header(Path("tiny.gguf"), {}, tensors).description
            'tiny.gguf, dequantised to float32: 75% of the weights were Q8_0, 25% F32'
        """
        sizes: Counter[str] = Counter()
        for kind, size in self.tensors.values():
            sizes[kind] += size
        shares = [(f"{100 * n / sizes.total():.3g}%", kind) for kind, n in sizes.most_common()]
        (share, kind), *others = shares
        listed = ", ".join([f"{share} of the weights were {kind}", *map(" ".join, others)])
        return f"{self.path.name}, dequantised to float32: {listed}"


def read_header(path: str | Path) -> Header:
    """Read the keys and the list of tensors of a file.

    Raises:
        DataError: If it does not exist, is no complete GGUF file, or is one of several parts.
    """
    from gguf import GGUFReader

    path = Path(path).expanduser()
    if not path.is_file():
        raise DataError(f"{path} does not exist; give a .gguf file")
    try:
        reader = GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {t.name: (t.tensor_type.name, int(t.n_elements)) for t in reader.tensors}
        fields["general.architecture"]
    except Exception as error:  # numpy's errors of many kinds, where the file is cut
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise DataError(
            f"{path}: is not a complete GGUF file ({reason}); fetch it again"
        ) from error
    if fields.get("split.count", 1) > 1:
        raise DataError(
            f"{path}: is one of {fields['split.count']} parts; join them with "
            "`llama-gguf-split --merge` and give the result"
        )
    return Header(path, fields, tensors)


def read_config(header: Header) -> Any:
    """Configuration of the model in a file, which transformers can load.

    Raises:
        DataError: If transformers does not read the architecture as a causal language model, or
            the file has properties that it would ignore.
    """
    from transformers import AutoConfig
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    path, architecture = header.path, header.fields["general.architecture"]
    try:
        config = AutoConfig.from_pretrained(
            path.parent, gguf_file=path.name, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # an unknown architecture, or keys that it needs are missing
        reason = " ".join(str(error).split())[:160]
        raise DataError(
            f"{path}: transformers cannot read a GGUF file of architecture {architecture!r} "
            f"({reason}); give the original model by id"
        ) from error
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise DataError(
            f"{path}: architecture {architecture!r} is not a causal language model; give another"
        )
    if "tokenizer.ggml.tokens" not in header.fields:
        raise DataError(f"{path}: has no tokenizer; give a file with one, or the model by id")
    pre = header.fields.get("tokenizer.ggml.pre")
    read = {*_PLAIN, *_DIGITS, *GGUF_PRE_TOKENIZER_SPLITS}
    if header.fields.get("tokenizer.ggml.model") == "gpt2" and pre not in read:
        raise DataError(
            f"{path}: its tokenizer splits texts in a way that transformers does not read "
            f"(tokenizer.ggml.pre = {pre!r}); give the original model by id"
        )
    for name in _UNREAD:
        if header.get(name, 1.0) not in (0.0, 1.0):
            raise DataError(
                f"{path}: its {architecture}.{name} = {header.get(name):g} would be ignored by "
                "transformers; give the original model by id"
            )
    _complete(config, header)
    return config


def _complete(config: Any, header: Header) -> None:
    """Set what the file states and the loader leaves at the default of the class."""
    for key, names in _ATTRIBUTES.items():
        value = header.get(key)
        for name in names if value is not None else ():
            if hasattr(config, name) and not hasattr(config, "global_head_dim"):
                setattr(config, name, value)
    for name, parts in _BIASES.items():
        if hasattr(config, name):
            setattr(config, name, any(f"blk.0.{part}" in header.tensors for part in parts))
    for name, key in _SPECIAL.items():
        if not isinstance(getattr(config, f"{name}_token_id", None), list):
            setattr(config, f"{name}_token_id", header.fields.get(f"tokenizer.ggml.{key}_token_id"))
    _, size = header.tensors.get("token_embd.weight", ("", config.vocab_size * config.hidden_size))
    config.vocab_size = size // config.hidden_size
    rope = getattr(config, "rope_parameters", None)
    if not rope or "rope_theta" not in rope:  # none, or one for each kind of layer
        return
    rope["rope_theta"] = header.get("rope.freq_base", rope["rope_theta"])
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    share = header.get("rope.dimension_count", head) / head
    if share != rope.get("partial_rotary_factor", 1.0):
        rope["partial_rotary_factor"] = share
    rope |= _scaling(config, header, int(head * share))


def _scaling(config: Any, header: Header, width: int) -> dict[str, Any]:
    """Settings of rotary positions that are scaled for long contexts.

    Raises:
        DataError: If they are scaled in another way than the library knows.
    """
    kind, factor = header.get("rope.scaling.type", "none"), header.get("rope.scaling.factor")
    if any(name.startswith("rope_factors") for name in header.tensors):
        kind = "longrope"
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    if kind == "yarn":
        original = header.get("rope.scaling.original_context_length")
        original = original or config.max_position_embeddings
        return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    if kind != "none":
        raise DataError(
            f"{header.path}: its rotary positions are scaled in a way that is not supported "
            f"({kind}); give the original model by id"
        )
    return _scaling_of_llama3(config, header, width) if _ROPE in header.tensors else {}


def _scaling_of_llama3(config: Any, header: Header, width: int) -> dict[str, Any]:
    """Settings of Llama 3's scaling, of which a file contains the resulting factors alone."""
    from gguf import GGUFReader

    data = next(t.data for t in GGUFReader(header.path).tensors if t.name == _ROPE)
    factors = [float(value) for value in data]
    settings = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "factor": max(factors)}
    settings["original_max_position_embeddings"] = original = 8192
    theta = config.rope_parameters["rope_theta"]
    for number, factor in enumerate(factors):
        waves = original / (2 * math.pi * theta ** (2 * number / width))
        smooth = min(max((waves - 1) / 3, 0.0), 1.0)
        expected = 1 / ((1 - smooth) / settings["factor"] + smooth)
        if not math.isclose(expected, factor, rel_tol=1e-3):
            raise DataError(
                f"{header.path}: its {_ROPE} are not those of Llama 3; give the original model by "
                "id"
            )
    return {"rope_type": "llama3", **settings}


def convert(path: str | Path, folder: Path) -> str:
    """Dequantise a file to float32 and save it as a folder in Hugging Face's format.

    Args:
        path: A ``.gguf`` file.
        folder: Folder to write: model, tokenizer and a README.

    Returns:
        Types of the weights in the file, in words.

    Raises:
        DataError: If the file cannot be read completely.
    """
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    header = read_header(path)
    config, path = read_config(header), header.path
    options = {"config": config, "gguf_file": path.name, "dtype": torch.float32}
    # Else the configuration would say that the weights are quantised, which cannot be saved.
    options |= {"quantization_config": GgufConfig(dequantize=True), "local_files_only": True}
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            path.parent, output_loading_info=True, trust_remote_code=False, **options
        )
    except Exception as error:  # a type without code to dequantise it, tensors of wrong shapes
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: cannot be loaded ({type(error).__name__}: {reason})") from error
    _check(model, report, header)
    _permute_back(model, header)
    model.save_pretrained(folder)
    _tokenizer(header).save_pretrained(folder)
    (folder / "README.md").write_text(f"Weights of {header.description}.\n")
    return header.description


def _check(model: Any, report: dict[str, Any], header: Header) -> None:
    """Refuse a model that lacks tensors of the file, or has tensors that are not in it."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(model.config, trust_remote_code=False)
    shapes = {name: tensor.shape for name, tensor in empty.state_dict().items()}
    wrong = [name for name, value in model.state_dict().items() if shapes.get(name) != value.shape]
    wrong += [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]]
    tied = {"output.weight"} if model.config.tie_word_embeddings else set()
    counted = [size for name, (_, size) in header.tensors.items() if name not in {_ROPE, *tied}]
    loaded = sum(parameter.numel() for parameter in model.parameters())
    if wrong or sum(counted) != loaded:
        about = f"{wrong[0]} is missing or has another shape" if wrong else "some are left out"
        raise DataError(
            f"{header.path}: has {sum(counted)} weights, of which transformers loads {loaded} "
            f"({about}); give the original model by id"
        )


def _permute_back(model: Any, header: Header) -> None:
    """Reorder the rows of queries and keys of a Llama without grouped heads.

    The loader does so only for files that state a number of key-value heads.
    """
    import torch

    if header.fields["general.architecture"] != "llama" or header.get("attention.head_count_kv"):
        return
    heads = model.config.num_attention_heads
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if ".q_proj." in name or ".k_proj." in name:
                parts = weights.reshape(heads, len(weights) // heads // 2, 2, -1)
                weights.copy_(parts.swapaxes(1, 2).reshape(weights.shape))


def _tokenizer(header: Header) -> Any:
    """The file's tokenizer, with the tokens of the file alone and its BOS and EOS around texts."""
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    path, tokens = header.path, header.fields["tokenizer.ggml.tokens"]
    try:
        loaded = AutoTokenizer.from_pretrained(
            path.parent, gguf_file=path.name, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: its tokenizer cannot be read ({reason})") from error

    def field(name: str, default: Any = None) -> Any:
        return header.fields.get(f"tokenizer.ggml.{name}", default)

    state = json.loads(loaded.backend_tokenizer.to_str())
    # Classes of tokenizers add special tokens of their own, beyond those that the model has.
    state["added_tokens"] = [new for new in state["added_tokens"] if new["id"] < len(tokens)]
    if field("pre") in _WHOLE_WORDS:
        state["model"]["ignore_merges"] = True
    if field("pre") in _DIGITS and field("model") == "gpt2":
        digits = {"type": "Digits", "individual_digits": True}
        words = [digits, state["pre_tokenizer"]]
        state["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": words}
    if field("add_space_prefix") is False:
        for part in ("pre_tokenizer", "decoder"):
            if (state[part] or {}).get("type") == "Metaspace":
                state[part]["prepend_scheme"] = "never"
    tokenizer = Tokenizer.from_str(json.dumps(state))
    numbers = {name: field(f"{key}_token_id") for name, key in _SPECIAL.items()}
    special = {name: tokens[n] for name, n in numbers.items() if n is not None and n < len(tokens)}
    begins = field("model") == "llama" or field("pre") in _WHOLE_WORDS
    before = [special["bos"]] * (field("add_bos_token", begins) and "bos" in special)
    after = [special["eos"]] * (field("add_eos_token", False) and "eos" in special)
    around = {(token, tokens.index(token)) for token in (*before, *after)}
    tokenizer.post_processor = TemplateProcessing(
        single=[*before, "$A", *after], special_tokens=sorted(around)
    )
    named = {f"{name}_token": token for name, token in special.items()}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, chat_template=header.fields.get("tokenizer.chat_template"),
        model_max_length=header.get("context_length"), clean_up_tokenization_spaces=False, **named,
    )  # fmt: skip
