"""What is published in a store, and how: manifests, the one commit protocol, the champion log, leases, sweeping.

Everything here speaks keys (`digitrec.storage`); nothing knows where bytes lie.
"""
