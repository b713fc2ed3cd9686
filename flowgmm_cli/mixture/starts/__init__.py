"""Where the means of the mixture start: from guesses of the classes, from clusters, or drawn."""
