"""From a wish to vLLM's engine arguments: `arguments` says which a client may set, `plan` chooses the rest."""
