"""Image files as pixels: which there are, how they are decoded, and where the pixels are kept."""
