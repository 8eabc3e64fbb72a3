"""The public API: messages and service stubs that `make proto` generates from proto/vllmd/v1; never edited."""
