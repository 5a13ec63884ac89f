"""Codecs whose weights transformers reads: Mimi, DAC and EnCodec. Their decoders are streamed by our own stages."""
