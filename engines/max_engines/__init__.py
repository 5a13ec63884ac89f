"""Token generators: model loading, paged KV cache, scheduler, sampler.

Importing this package loads neither torch nor transformers; import what you use from its modules:

    from max_engines.loading import LoadedModel, load_model        # load_model(path_or_id, *, dtype, device)
    from max_engines.tokenizer import load_tokenizer                # load_tokenizer(path_or_id) -> Tokenizer
    from max_engines.config import EngineConfig                     # how much the engine takes on
    from max_engines.engine import Engine                           # Engine(model, EngineConfig(...)): TokenGenerator
    from max_engines.reference import ReferenceEngine               # the slow, obvious twin that tests compare with
    from max_engines.processors import register                     # a logits processor of your own, by name

A step of the engine, `engine.Engine.normal_step`: schedule (`scheduler`, `memory`, `prefix_cache`, `blocks`) → run
(`runner`, `fused_decoder`, `attention`, `kv_cache`) → sample (`sampler`, `rules`, `draw`) → commit. `constraints` has
grammars and thinking budgets; `detokenizer` and `chat_template` are what a text pipeline needs. One thread calls the
engine; how many threads torch uses is set by whoever starts the process.
"""

import logging

# Where torchao is installed, transformers imports it, and says what of it this machine cannot use: nobody has asked.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)
