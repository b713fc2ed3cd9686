"""What people look at: figures, report pages, model cards."""
