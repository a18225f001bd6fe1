"""What campaigns cost: each against the way that it is usually done, or against a bound."""
