"""``python -m max_voices.recipe.train``: everything after the data, in a chosen wall time.

The phases of one budget: the autoencoder, beside it the phones; then, codes frozen, the sound decoder beside
the language model. Each is a process of its own with one thread, so that two cores are used well; on a GPU they
share it. A second run goes on with the last two: the codes stay those that the first has learnt. ``--fresh``
forgets all checkpoints.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from max_voices.embedded import FOLDER
from max_voices.recipe import autoencoder, language, sound
from max_voices.recipe.data import WORK
from max_voices.recipe.export import export, thaw
from max_voices.recipe.flite import SPEAKERS
from max_voices.recipe.levels import level

_CODES = 0.22  # share of the budget until the codes are frozen
_ENCODE = 0.06  # encoding takes about this share
_CHECKPOINTS = ("autoencoder", "phones", "decoder", "codec", "language")


def phase(name: str, options: argparse.Namespace, speakers: Sequence[str]) -> None:
    """Runs one phase in this process."""
    work, seconds, gentle = options.work, options.minutes * 60, options.gentle
    torch.set_num_threads(options.threads)
    if name == "autoencoder":
        autoencoder.train(work, speakers, seconds)
    elif name == "phones":
        language.train(work, speakers, seconds, phones_only=True, gentle=gentle)
    elif name == "encode":
        autoencoder.encode_all(work, speakers)
    elif name == "sound":
        sound.train(work, speakers, seconds, gentle=gentle)
    elif name == "language":
        language.train(work, speakers, seconds, phones_only=False, gentle=gentle)
    else:
        export(work, options.out, tuple(speakers))
        level(options.out)


def side_by_side(work: Path, speakers: Sequence[str], phases: dict[str, float], gentle: float) -> None:
    """Runs phases at the same time; raises ``CalledProcessError`` for the first that fails, and ends the others."""
    command = [sys.executable, "-m", "max_voices.recipe.train", "--work", str(work), "--speakers", *speakers]
    command += ["--gentle", str(gentle)]
    running = [
        subprocess.Popen([*command, "--phase", name, "--minutes", str(seconds / 60)])
        for name, seconds in phases.items()
    ]
    try:
        for process in running:
            if process.wait():
                raise subprocess.CalledProcessError(process.returncode, process.args)
    finally:
        for process in running:
            if process.poll() is None:
                process.terminate()
                process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=95.0, help="wall time of all training; 15 do on a GPU")
    parser.add_argument("--work", type=Path, default=WORK, help="where the data are and checkpoints go")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where the voice goes")
    parser.add_argument("--speakers", nargs="+", default=SPEAKERS, choices=SPEAKERS)
    parser.add_argument("--gentle", type=float, default=0.35, help="how fast a second run learns, times the first")
    parser.add_argument("--start", type=Path, help="begin with the weights of the voice in this folder")
    parser.add_argument("--fresh", action="store_true", help="delete the checkpoints first")
    parser.add_argument(
        "--phase", choices=("autoencoder", "phones", "encode", "sound", "language", "export"), help="one alone"
    )
    parser.add_argument("--threads", type=int, default=1, help="of a phase: one, since two phases run side by side")
    options = parser.parse_args()
    work, speakers, seconds = options.work, tuple(dict.fromkeys(options.speakers)), options.minutes * 60
    if options.phase:
        phase(options.phase, options, speakers)
        return
    if options.start and not options.fresh and (work / "language.safetensors").exists():
        parser.error(f"--start: there are checkpoints in {work}, which would be gone on with; --fresh deletes them")
    if options.fresh:
        for name in _CHECKPOINTS:
            (work / f"{name}.safetensors").unlink(missing_ok=True)
    if options.start:
        thaw(options.start, work)
    rest = seconds
    if not (work / "language.safetensors").exists():
        first = {"autoencoder": _CODES * seconds, "phones": _CODES * seconds}
        side_by_side(work, speakers, first, options.gentle)
        side_by_side(work, speakers, {"encode": 0.0}, options.gentle)
        rest = (1 - _CODES - _ENCODE) * seconds
    side_by_side(work, speakers, {"sound": rest, "language": rest}, options.gentle)
    phase("export", options, speakers)
    print(f"the voice is in {options.out}; python -m max_voices.recipe.evaluate measures it", file=sys.stderr)


if __name__ == "__main__":
    main()
