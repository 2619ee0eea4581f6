"""What the pool shows over HTTP, without any framework: adapters only carry it."""
