"""`maxpipe bench text`: our engine and its peers, side by side, on the same checkpoint and the same prompts.

    shapes       the checkpoints: random weights of three shapes
    scenarios    what is asked of every contender
    contender    who they are; each is a process of its own
    running      this end of it
    child        the other end: `ours`, `road`, `transformers_peers`; vLLM's, in its own environment, is `vllm_script`
    race         who runs when; from arrival times to results
    report       the table and the JSON
    plot         the picture

Everybody decodes greedily, ignores the end of sequence, has the same threads and may use the same processors.
"""
