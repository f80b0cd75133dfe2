"""The pool: responses of the sampler a second, with their log-probs, by precision.

``python benchmarks/gpu/sampling.py`` draws many responses to each of a few prompts at once, as
``vbon sample`` does; on a machine without GPU from a tiny model.
"""

import tempfile

from device import SHAPES, build, options, prompts, report, seconds, write

from vbon.sampling import sample
from vbon.sampling.vllm import VLLM
from vbon.training.compute import Compute

VLLM_DTYPES = {"float32": "fp32", "bfloat16": "bf16"}


def main() -> None:
    """Time, print."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=4, help="decoded at a time (default 4)")
    parser.add_argument("--draws", type=int, default=850, help="responses a prompt (default 850)")
    parser.add_argument("--tokens", type=int, default=40, help="of a response (default 40)")
    parser.add_argument("--vllm", action="store_true", help="also vLLM, which must be installed")
    chosen = parser.parse_args()
    shape = SHAPES[chosen.shape]
    model, asked = build(shape, chosen.tokens), prompts(chosen.prompts, shape)
    rows, length = chosen.prompts * chosen.draws, asked.ids.shape[1]
    flop = shape.forward(chosen.prompts, length, 0, head=False)
    flop += shape.forward(rows, 0, chosen.tokens)  # as if every response had all its tokens
    read = shape.decoding_reads(chosen.prompts, chosen.draws, length, chosen.tokens)
    limits = {"draws": chosen.draws, "max_new_tokens": chosen.tokens}
    # A token like any other ends a response: vLLM takes no end beyond the vocabulary.
    how, found, drawn = {**limits, "eos_token_id": shape.vocab_size - 1, "seed": 0}, {}, []
    for precision in chosen.precision:
        compute = Compute(precision)
        compute.start(model)

        def draw(compute: Compute = compute) -> None:
            with compute.forward(model.device):
                drawn.append(int(sample(model, asked, **how).response_mask.sum()))

        took = seconds(draw, chosen.rounds)
        found[precision] = report(precision, took, drawn[-1], "tokens", flop, read)
    for dtype, precision in VLLM_DTYPES.items() if chosen.vllm else ():
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            engine = VLLM(folder, dtype=dtype)

        def ask(engine: VLLM = engine) -> None:
            drawn.append(int(engine(asked, **how).response_mask.sum()))

        took = seconds(ask, chosen.rounds)
        found[f"vllm {dtype}"] = report(precision, took, drawn[-1], "tokens by vLLM", flop, read)
        del engine, ask  # and the share of memory that it holds
    write(chosen.out, {"shape": vars(shape), **limits, **found})


if __name__ == "__main__":
    main()
