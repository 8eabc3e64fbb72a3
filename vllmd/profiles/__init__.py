"""What loads really took, remembered from one daemon to the next, for plans to go by.

Owns the records, the file that they are in, and the question which of them holds for the vLLM that is installed now.
It knows nothing of engines' lives, and nothing of what a plan makes of a profile.
"""
