"""Views: random changes (augmentations) of rows that keep their class."""
