"""Where the daemon's settings come from: files, the environment, the command line; and how people are shown them.

Owns the order of these sources, the checks of what stands there, and the words for what is wrong with it. What the
settings are and mean is `vllmd.config`; what is done with them, others know.
"""
