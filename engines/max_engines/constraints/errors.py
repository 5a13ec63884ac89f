"""What goes wrong while a constraint is applied."""

from __future__ import annotations


class ConstraintError(RuntimeError):
    """The constraint cannot say what may come next. The sequence it belongs to fails; no other does."""
