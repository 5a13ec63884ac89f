"""Token generators: model loading, paged KV cache, scheduler, sampler.

Importing this package loads neither torch nor transformers; import what you use from its modules:

    from max_engines.loading import LoadedModel, load_model        # load_model(path_or_id, *, dtype, device)
    from max_engines.tokenizer import load_tokenizer                # load_tokenizer(path_or_id) -> Tokenizer
    from max_engines.engine import Engine, EngineConfig             # Engine(model, EngineConfig(...)): TokenGenerator
    from max_engines.reference import ReferenceEngine               # the slow, obvious twin that tests compare with

A step of the engine, in `engine.Engine.step`: schedule (`scheduler`) → run (`runner`, `attention`, `kv_cache`) →
sample (`sampler`, `rules`) → commit. One thread calls it; how many threads torch uses is set by whoever starts
the process.
"""
