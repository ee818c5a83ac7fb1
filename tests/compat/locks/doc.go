// Package locks makes the same calls of the Lock, Election, Health and
// Downgrade services to the real etcd and to etcore, and compares what comes
// back: revisions, keys, leases and the texts of errors.
package locks
