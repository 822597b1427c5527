"""From files to texts and examples: lines, tables, records."""
