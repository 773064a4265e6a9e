"""Methods: the interface that each of them implements, finding them by name, and the one that new ones begin from."""
