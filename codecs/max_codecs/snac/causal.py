"""The causal decoder: look-ahead 0, for codecs of our own."""

from __future__ import annotations

from collections.abc import Sequence

from .decoder import Decoder, fresh_noise

__all__ = ["CausalDecoder", "fresh_noise"]


class CausalDecoder(Decoder):
    """`Decoder` with every layer causal: a sample depends on no latent after its own.

    Convolutions are padded by (k - 1) * dilation on the left; transposed ones (kernel 2s, stride s) are cut by s
    on the right. Parameter names are those of `snac.layers.Decoder`.
    """

    def __init__(
        self,
        input_channel: int,
        channels: int,
        rates: Sequence[int],
        noise: bool = False,
        depthwise: bool = False,
        attn_window_size: int | None = None,
        d_out: int = 1,
    ) -> None:
        super().__init__(input_channel, channels, rates, noise, depthwise, attn_window_size, d_out, causal=True)
