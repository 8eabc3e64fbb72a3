"""What vLLM itself makes of some inputs: run under the interpreter that has vLLM.

Prints a list for each job, of a list of vectors that are scaled and one of vectors that are not, as JSON:
`python reference_vectors.py '[{"model": MODEL, "inputs": [[1, 2], …], "engine_args": {}}, …]'`
"""

import json
import sys
from typing import Any


def main(jobs: list[dict[str, Any]]) -> None:
    """Embed the inputs of each job, one model after the other."""
    from vllm import LLM, PoolingParams

    found = []
    for job in jobs:
        llm = LLM(model=job["model"], **job["engine_args"])
        prompts = [{"prompt_token_ids": ids} for ids in job["inputs"]]
        params = [PoolingParams(task="embed", use_activation=normalize) for normalize in (True, False)]
        found.append([[one.outputs.embedding for one in llm.embed(prompts, pooling_params=each)] for each in params])
        del llm
    print("RESULT " + json.dumps(found), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
