// Package harness starts the servers that the compatibility tests talk to:
// the real etcd as built into bin/ by build.sh, and etcore, whose path comes
// from the environment variable ETCORE_BIN.
//
// Every server gets free ports on the loopback interface and a temporary
// directory, and advertises the same fixed URLs, so that two servers of the
// same workload derive the same member and cluster identity. Processes are
// ended by process id, and end with the test binary whatever happens to it.
package harness
