"""What commands write: tables, pages and answers for people, JSON for programs."""
