"""Which way of classifying works best on a person's own data? Candidates within a time budget, scored without a leak,
and advice that follows from the figures."""
