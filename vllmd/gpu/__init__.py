"""What GPUs this host has: `inventory` says what is known of them, `nvml` finds it out."""
