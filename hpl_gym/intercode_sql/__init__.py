"""InterCode-SQL: questions over databases, answered by running SQL."""
