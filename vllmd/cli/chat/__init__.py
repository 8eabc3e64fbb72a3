"""What the `chat` command does: a conversation at a terminal."""
