"""The replicas that share a store: who is alive, and who shall have which shard."""
