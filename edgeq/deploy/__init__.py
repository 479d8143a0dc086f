"""Bundles onto devices, over the system's OpenSSH.

`address` reads USER@HOST[:DIR], `ssh` runs the system's ssh, `agent` is what runs on the device, `release` says what a device is
to hold, `steps` puts it there. The device's folder, and what is promised when a copy breaks, are in docs/deploy.md.
"""
