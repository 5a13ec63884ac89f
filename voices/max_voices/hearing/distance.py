"""How far one reading of a text is from another: mel-cepstral distance after time alignment.

Kubichek, "Mel-cepstral distance measure for objective speech quality assessment" (1993): of two spectra, smoothed to
24 coefficients, the root mean square of what they differ by, in dB. Alignment is dynamic time warping (Sakoe and
Chiba, 1978).
"""

import numpy as np
from numpy.typing import NDArray

from .spectra import BANDS, Rows, Sound, active, log_mel

ORDER = 24  # coefficients, without the zeroth: that is loudness
LONGEST = 6_000  # frames of a sound, a minute: the table of distances is that number squared


def mel_cepstral_distance(sound: Sound, other: Sound) -> float:
    """Mean over the aligned frames of two sounds at 16 kHz, in dB; outer silence counts for nothing.

    0 for a sound and itself. ValueError for one without anything in it, or of more than a minute.
    """
    distances = _distances(_cepstra(sound), _cepstra(other))
    path = aligned(distances)
    return float(distances[path[:, 0], path[:, 1]].mean())


def aligned(distances: Rows) -> NDArray[np.intp]:
    """The cheapest way through a table (n, m) of distances, from corner to corner: pairs (steps, 2), each once.

    A step goes on by one in either sound, or in both.
    """
    total = _totals(distances)
    row, column = distances.shape[0], distances.shape[1]
    path = [(row, column)]
    while (row, column) != (1, 1):
        both, up, left = total[row - 1, column - 1], total[row - 1, column], total[row, column - 1]
        best = min(both, up, left)
        row, column = (row - 1, column - 1) if both == best else (row - 1, column) if up == best else (row, column - 1)
        path.append((row, column))
    return np.array(path[::-1], np.intp) - 1


def _totals(distances: Rows) -> Rows:
    """The least sum on a way to each cell, (n + 1, m + 1), a diagonal at a time: its cells do not need each other."""
    rows, columns = distances.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    for diagonal in range(2, rows + columns + 1):
        row = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        column = diagonal - row
        before = np.minimum(total[row - 1, column], total[row, column - 1])
        total[row, column] = distances[row - 1, column - 1] + np.minimum(before, total[row - 1, column - 1])
    return total


def _cepstra(sound: Sound) -> Rows:
    """Mel cepstra (frames, ORDER) of what lies between the first and the last sound, in dB."""
    mel = log_mel(sound)
    heard = np.flatnonzero(active(mel))
    mel = mel[heard[0] : heard[-1] + 1]
    if not np.abs(sound).max(initial=0) > 0 or len(mel) > LONGEST:
        raise ValueError(f"sound: has {len(mel)} frames with something in them; there must be 1 to {LONGEST}")
    angles = np.pi * np.arange(1, ORDER + 1)[:, None] * (np.arange(BANDS) + 0.5) / BANDS
    return np.asarray(mel @ np.cos(angles).T * (2 / BANDS))


def _distances(first: Rows, second: Rows) -> Rows:
    """Of each frame to each, (n, m). By Parseval this is the root mean square over the bands."""
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2 * first @ second.T
    return np.asarray(np.sqrt(np.maximum(squares, 0) / 2))
