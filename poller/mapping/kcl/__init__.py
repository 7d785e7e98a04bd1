"""Lease tables of the Kinesis Client Library: what their rows mean here, and what ours mean there. No I/O, no clock."""
