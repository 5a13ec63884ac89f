"""What a refused value says: which field, what it was, and what it must be."""

from __future__ import annotations

MAX_SHOWN = 80  # characters of a value
MAX_TOLD = 400  # characters of a problem with what a stranger sent: some of them may be the stranger's own


class WrongType(ValueError):
    """The value is of no type that the field takes, as opposed to one that is out of bounds."""

    def __init__(self, where: str, value: object, bound: str) -> None:
        super().__init__(f"{where} = {shown(value)}: {bound}")
        self.where = where
        self.bound = bound


def fail(where: str, value: object, bound: str) -> ValueError:
    """The ValueError for a value out of bounds."""
    return ValueError(f"{where} = {shown(value)}: {bound}")


def shown(value: object) -> str:
    """`value` in a few characters, whatever it is."""
    if isinstance(value, str | bytes):
        value = value[: MAX_SHOWN + 1]
    try:
        text = repr(value)
    except Exception:  # a foreign repr may do anything; an integer of more than 4300 digits has none
        text = f"<{type(value).__name__}>"
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def told(problem: Exception) -> str:
    """What an error says, in one line of bounded length that no terminal or log takes for anything but text.

    msgspec repeats unknown names and words as they came: a megabyte of them, or a line that looks like one of ours.
    """
    text = str(problem)
    if len(text) > MAX_TOLD:  # the end says where it was
        text = f"{text[: MAX_TOLD // 2]} ... {text[-MAX_TOLD // 4 :]}"
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)
