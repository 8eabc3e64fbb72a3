"""The demo of the README's first screen."""
