"""The pages of docs/ that are made of the source, what they link to, and whether what they show works."""
