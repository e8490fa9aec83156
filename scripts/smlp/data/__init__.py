"""Images on their way to an engine: the data set, its transform, its bins. May import core."""
