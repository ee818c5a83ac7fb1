// Package learner has etcore join a running cluster of the real etcd: as a learner,
// then with a vote, at last as the leader. Whatever is written through either of
// the two, both must hold the same, to the hash. Left alone, it answers as an etcd
// in its place does.
package learner
