"""vLLM's end of `bench text`, run by the python of an environment that has vLLM: `vllm_script.py MODE SETUP`.

MODE is `compiled` or `eager`. The messages are those of `messages.py`; nothing of ours can be imported here.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


class VLLM:
    """Steps vLLM's own engine, so that each token's time is seen, as its `LLM.generate` does."""

    def __init__(self, setup: dict[str, Any], eager: bool) -> None:
        import vllm

        self.version = f"vLLM {vllm.__version__}"
        self._params = vllm.SamplingParams
        self._kind = vllm.sampling_params.RequestOutputKind.CUMULATIVE
        self._device = setup["device"]
        self._number = 0

        import torch

        torch.set_num_threads(setup["threads"])
        self._engine = vllm.LLM(
            model=setup["model"],
            dtype=setup["dtype"],
            skip_tokenizer_init=True,
            enforce_eager=eager,
            max_model_len=setup["longest"],
            max_num_seqs=setup["requests"],
            disable_log_stats=True,
            seed=0,
        ).llm_engine

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """All prompts at once; a token has come when the step that gave it returns."""
        new = job["new_tokens"]
        params = self._params(
            temperature=0.0, max_tokens=new, ignore_eos=True, detokenize=False, output_kind=self._kind
        )
        begin = time.perf_counter()
        arrivals: dict[str, list[float]] = {}
        for prompt in job["prompts"]:
            self._number += 1
            name = str(self._number)
            arrivals[name] = []
            self._engine.add_request(name, {"prompt_token_ids": prompt}, params)
        while self._engine.has_unfinished_requests():
            outputs = self._engine.step()
            now = time.perf_counter() - begin
            for output in outputs:
                times = arrivals[output.request_id]
                times.extend([now] * (len(output.outputs[0].token_ids) - len(times)))
        return {"arrivals": list(arrivals.values()), "device_bytes": self._used_memory()}

    def _used_memory(self) -> int:
        if not self._device.startswith("cuda"):
            return 0
        import torch

        free, total = torch.cuda.mem_get_info(self._device)
        return int(total - free)


def main(mode: str, setup: str) -> None:
    """Load, say so, and answer jobs until standard input ends."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        runner = VLLM(json.loads(setup), eager=mode == "eager")
        print(json.dumps({"version": runner.version}), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(runner.run(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
