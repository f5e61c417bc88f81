"""What ``fastopt demo`` runs: one file a task."""
