"""The verb ``build``: models that a task needs, trained here or named by a Hugging Face id."""

from pathlib import Path

from vbon.artifacts import read_table
from vbon.artifacts.fingerprint import provenance
from vbon.artifacts.tables import write_json
from vbon.cli.options import parser, settings


def build(arguments: list[str]) -> None:
    """Train a model from scratch on its own reviews, or point to one that exists.

    The card (metrics and provenance) is written last: where it stands, the model is complete.
    """
    options = parser("build", build.__doc__)
    options.add_argument(
        "--role", choices=["reference", "reward_model", "evaluator"], required=True
    )
    options.add_argument("--reviews", required=True)
    options.add_argument("--settings", type=settings, required=True, help="the model's section")
    options.add_argument("--tokenizer", type=settings, required=True, help="tokenizer settings")
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--card", required=True, help="output; the model goes into its folder")
    args = options.parse_args(arguments)
    card, chosen = Path(args.card), args.settings
    card.unlink(missing_ok=True)
    if chosen["id"] is not None:
        from vbon.models.language_model import POINTER

        write_json(card.parent / POINTER, {"id": chosen["id"], "revision": chosen["revision"]})
        metrics = {}
    else:
        (card.parent / "pointer.json").unlink(missing_ok=True)
        metrics = _train(args.role, args.reviews, chosen["build"], args.tokenizer, args.seed, card)
    made = {"seed": args.seed, "role": args.role, "model": chosen, "tokenizer": args.tokenizer}
    record = provenance(made, {"reviews": args.reviews}, ("vbon.models.build",))
    write_json(card, {"metrics": metrics, **record})


def _train(
    role: str, reviews: str, chosen: dict, tokenizer: dict, seed: int, card: Path
) -> dict[str, float]:
    import torch

    from vbon.models.build import build_classifier, build_reference, build_tokenizer
    from vbon.seeding import derive_seed

    torch.set_num_threads(1)
    table = read_table(reviews, "reviews")
    own = table[table["part"] == role]
    classifier = role != "reference"
    vocabulary = build_tokenizer(
        own["text"],
        kind=tokenizer["kind"],
        vocab_size=tokenizer["vocab_size"],
        max_tokens=chosen["max_tokens"],
        classifier=classifier,
    )
    stream = derive_seed(seed, role)
    if classifier:
        return build_classifier(own, vocabulary, chosen, stream, card.parent)
    return build_reference(own["text"], vocabulary, chosen, stream, card.parent)
