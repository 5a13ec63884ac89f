"""What a sequence may say: grammars and thinking budgets, as `TokenConstraint`s.

Importing this package loads nothing; import what you use from its modules:

    from max_engines.constraints.vocabulary import Vocabulary      # the bytes of every token, once per tokenizer
    from max_engines.constraints.grammar import Grammar             # what was asked for, read and bounded
    from max_engines.constraints.compiling import GrammarCompiler   # tries it in a process that can be killed
    from max_engines.constraints.thinking import ThinkingTags       # where the model's thinking begins and ends
    from max_engines.constraints.combined import sequence_constraint

Once per model:

    vocabulary = Vocabulary.of(transformers_tokenizer, size=model_vocab_size, end_ids=eos_token_ids)
    compiler = GrammarCompiler(vocabulary)                          # starts nothing before the first `submit`
    compiler.prepare()                                              # optional, in the warm-up: see there
    ...
    compiler.close()

Once per request; no call waits. `Grammar.requested` is None if the request has no grammar, `ThinkingTags.of` if the
model has no thinking. ValueError, with the reason for the user, of `requested`: there is no such grammar; of `submit`:
the model has no end id, or too many wait; of `poll`: it does not compile, or not within the limits.

    grammar = Grammar.requested(params.grammar, request.response_format)
    compiling = compiler.submit(grammar)
    tags = ThinkingTags.of(transformers_tokenizer)
    compiled = compiling.poll()                                     # None: not ready yet
    compiling.cancel()                                              # when the request ends before; safe at any time

Once per sequence, so once per child of `n`, when the grammar is compiled. `prompt` are the ids; ValueError for a
`thinking_budget` when the model has no tags:

    constraint = sequence_constraint(
        prompt, vocabulary, grammar=compiled, tags=tags, thinking_budget=params.thinking_budget
    )                                                               # None: nothing was asked for

A turn that has nothing to do but wait for compilers calls `compiler.wait(seconds)`, which returns as soon as one ends.

A constraint that cannot go on, because a grammar has become too costly or tokens were forced that it does not know,
raises `errors.ConstraintError`: that sequence fails, the others go on.

**How the two go together.** Inside a thinking block the grammar asks for nothing but that the text does not end there;
it begins behind the block's end id and never sees what was thought. If the prompt leaves no block open, the grammar
begins at once, unless a `thinking_budget` was given: then the very first token may open a block. Behind the block all
is the grammar's, so no second one is opened.
"""
