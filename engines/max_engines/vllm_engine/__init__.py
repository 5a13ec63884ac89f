"""vLLM as a token generator, for models that want several devices or hosts. Nothing here but `options` needs it early.

vLLM's engine core runs in the worker's own process: a step of ours is a step of its scheduler, a constraint stays a
Python object, and a worker that is killed leaves no engine behind. Only its tensor and pipeline parallel workers are
processes of their own.
"""
