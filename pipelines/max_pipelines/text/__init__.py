"""Text: a request to prompt ids (`prompting`) and sampling (`plan`), tokens to text (`sequence`, `stopping`) and to
outputs (`answer`), many at once (`pipeline`).
"""
