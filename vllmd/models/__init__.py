"""What a model is: `facts` reads its `config.json`, `files` finds that on this host."""
