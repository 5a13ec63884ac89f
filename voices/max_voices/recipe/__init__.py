"""The recipe that makes the embedded voice: data, training, evaluation.

Two commands retrain everything, a third measures it::

    python -m max_voices.recipe.data
    python -m max_voices.recipe.train
    python -m max_voices.recipe.evaluate

What is served is measured by ``maxpipe bench voice``.
"""
