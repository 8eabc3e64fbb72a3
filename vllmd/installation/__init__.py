"""How vllmd gets onto a host as a service, and off it again: which files, which commands, in which order.

Owns what `vllmd install` and `vllmd uninstall` do; the package for Debian takes the same units. `layout` says where
things are, `seen` looks at what there is, `planning` decides on the steps (pure), `steps` takes them.
"""
