"""Device families that edgeq builds for: one small declarative file each."""
