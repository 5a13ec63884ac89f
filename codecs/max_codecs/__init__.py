"""Speech tokens to sound: layouts, constraints, streaming decoders, sound files. Modules are imported one by one.

`layout`, `prompt`, `frames`, `constraint`, `chunks`, `pcm` and `wav` need numpy and msgspec; only `snac` needs torch.
"""
