"""Texts to vectors: encoders, and decoders without their heads.

from max_engines.embedding.encoder import Encoder, load_encoder     # ids in, one vector for each text out
from max_engines.embedding.recipe import Recipe, read_recipe        # how a checkpoint's vectors are pooled
"""
