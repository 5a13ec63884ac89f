"""`python -m tests.faults.fuzzing.vandal ADDRESS SEED`: sends a server damaged messages until standard input closes.

Prints how many were sent, and how often a connection was cut.
"""

from __future__ import annotations

import random
import select
import sys
from contextlib import ExitStack

import zmq

from tests.faults.fuzzing.corpus import Seeds
from tests.faults.fuzzing.mutator import Mutator
from tests.faults.fuzzing.raw import RawPeer

PEERS = 6
BURST, PAUSE_S = 20, 0.01  # messages, then it looks at what has come: what a server has yet to read takes memory


def main(address: str, seed: int) -> None:
    """Do harm."""
    chance = random.Random(seed)
    headers = Mutator(Seeds.load("headers").all, chance, 1)
    payloads = Mutator(Seeds.load("payloads").all, chance)
    sent = cuts = 0
    with ExitStack() as resources:
        context = resources.enter_context(zmq.Context[zmq.Socket[bytes]]())
        peers = [resources.enter_context(RawPeer(context, address, b"vandal-%d" % number)) for number in range(PEERS)]
        print("begins", flush=True)
        while not select.select([0], [], [], PAUSE_S)[0]:
            for _ in range(BURST):
                frames = headers.message()
                if chance.random() < 0.3:
                    frames += payloads.message()
                sent += chance.choice(peers).send(frames)
            for peer in peers:
                peer.drain()
                cuts += peer.cuts()
    print(sent, cuts, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
