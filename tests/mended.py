"""The pages that keep the whole house style. The others follow, and then this list goes."""

MENDED = (
    "basics/neural-networks",
    "block/attention",
    "block/feed-forward",
    "block/multi-head",
    "block/absolute-positions",
    "block/layer-norm",
    "block/rope",
    "block/transformer-by-hand",
    "length/attention-cost",
    "length/global-local",
    "length/hybrid-architecture",
    "length/local-attention",
    "tokens/tokenizer-internals",
    "tokens/embeddings",
    "language/masked-lm",
    "language/reading-heads",
    "language/decoding",
    "language/in-context",
    "vision/vlm-lens",
    "vision/probing",
)
