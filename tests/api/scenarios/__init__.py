"""How each reason of the catalogue comes about: a real call to a real server, with fake engines and GPUs.

A new reason takes one line in `SCENARIOS` of the module that is about its part, mostly of the makers in `calls`.
"""
