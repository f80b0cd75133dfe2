"""Sampling of the pool: tokens per second, with their log-probs, by precision.

``python benchmarks/gpu/sampling.py`` draws many responses to each of a few prompts at once, as
``vbon sample`` does; on a machine without GPU, from a tiny model.
"""

import tempfile

from device import SHAPES, build, options, prompts, report, seconds, write

from vbon.sampling import sample
from vbon.sampling.vllm import VLLM
from vbon.training.compute import Compute

VLLM_DTYPES = {"float32": "fp32", "bfloat16": "bf16"}


def main() -> None:
    """Time the sampler, and vLLM on request, and print the results."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=4, help="decoded at a time (default 4)")
    parser.add_argument("--draws", type=int, default=850, help="responses per prompt (default 850)")
    parser.add_argument("--tokens", type=int, default=40, help="tokens per response (default 40)")
    parser.add_argument(
        "--vllm", action="store_true", help="also time vLLM, which must be installed"
    )
    args = parser.parse_args()
    shape = SHAPES[args.shape]
    model, batch = build(shape, args.tokens), prompts(args.prompts, shape)
    rows, length = args.prompts * args.draws, batch.ids.shape[1]
    flop = shape.forward(args.prompts, length, 0, head=False)
    flop += shape.forward(rows, 0, args.tokens)  # as if all responses had full length
    read = shape.decoding_reads(args.prompts, args.draws, length, args.tokens)
    limits = {"draws": args.draws, "max_new_tokens": args.tokens}
    # The end token is an ordinary one: vLLM accepts none outside the vocabulary.
    settings, numbers, drawn = {**limits, "eos_token_id": shape.vocab_size - 1, "seed": 0}, {}, []
    for precision in args.precision:
        compute = Compute(precision)
        compute.start(model)

        def draw(compute: Compute = compute) -> None:
            with compute.forward(model.device):
                drawn.append(int(sample(model, batch, **settings).response_mask.sum()))

        elapsed = seconds(draw, args.rounds)
        numbers[precision] = report(precision, elapsed, drawn[-1], "tokens", flop, read)
    for dtype, precision in VLLM_DTYPES.items() if args.vllm else ():
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            engine = VLLM(folder, dtype=dtype)

        def draw_by_vllm(engine: VLLM = engine) -> None:
            drawn.append(int(engine(batch, **settings).response_mask.sum()))

        elapsed = seconds(draw_by_vllm, args.rounds)
        numbers[f"vllm {dtype}"] = report(
            precision, elapsed, drawn[-1], "tokens by vLLM", flop, read
        )
        del engine, draw_by_vllm  # releases the engine's share of memory
    write(args.out, {"shape": vars(shape), **limits, **numbers})


if __name__ == "__main__":
    main()
