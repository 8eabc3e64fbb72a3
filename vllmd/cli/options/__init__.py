"""What commands have in common to be told: options, and what they name."""
