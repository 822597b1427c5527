"""The two stages: what each reads, what it starts from, and its training; and what comes before and after."""
