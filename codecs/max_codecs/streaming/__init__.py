"""Decoders of sound that keep state, so that nothing is decoded twice and any split gives the same samples."""
