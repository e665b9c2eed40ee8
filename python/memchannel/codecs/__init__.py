"""What each kind of channel puts into header and leases: the rare paths. The frequent ones are compiled."""
