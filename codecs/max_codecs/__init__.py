"""Speech tokens to sound: layouts, constraints, streaming decoders, sound files. Modules are imported one by one.

`layout`, `prompt`, `frames`, `delays`, `constraint`, `chunks`, `pcm` and `wav` need numpy and msgspec; `streaming` and
`snac` need torch, `pretrained` transformers, too.
"""
