// Package recipes runs what is built of etcd's calls, with the real Go packages: locks,
// elections and transactional memory, namespaces, mirrors, leasing, endpoints, and the calls
// of Kubernetes. Each runs in plain text and over mutual TLS, against etcore and against the
// real etcd: nothing is expected of etcore that etcd does not do.
package recipes
